"""Labels are compared with photographs that were read; a label of none is named and counts nowhere."""

import pytest
from mien_edge import testing
from mien_edge.chain.score import Score, as_text, read_labels
from mien_edge.errors import SourceError
from mien_edge.values import Frame


def labels(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(path)


def score(table, *names):
    """The score of photographs without a face."""
    result = Score(table)
    for index, name in enumerate(names):
        result(Frame(None, index, 0.0, name), ())
    return result


def test_labels_of_windows_and_of_a_spreadsheet_are_read(tmp_path):
    expected = {"a.jpg": "happy", "b.jpg": "sad"}
    for content in (
        "\ufefffile,emotion\r\na.jpg,happy\r\nb.jpg,sad\r\n\r\n",
        "file, emotion\n\n a.jpg , Happy\n,,\nb.jpg,SAD",
        'x,"Emotion","FILE"\n1,"happy","a.jpg"\n2,"sad","b.jpg"\n',
        "file,emotion\ra.jpg,happy\rb.jpg,sad\r".encode("utf-16"),
    ):
        assert labels(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("name,emotion\na.jpg,happy\n", "line 1 names no column 'file', but 'name, emotion'"),
        ("file;emotion\na.jpg;happy\n", "line 1: its cells are separated by semicolons"),
        ("file,emotion\n\na.jpg\n", "line 3: 1 columns where 2 are needed"),
        ("file,emotion\n\n,sad\n", "line 3: it names no file"),
        ("file,emotion\na.jpg,happiness\n", "line 2: the emotion 'happiness' is none of angry, .*: write happy"),
        ("file,emotion\na.jpg,glücklich\n", "line 2: the emotion 'glücklich' is none of angry"),
        ("file,emotion\na.jpg,3\n", "line 2: the emotion '3' is none of angry"),
        ("file,emotion\na.jpg,sad\nb.jpg,sad\na.jpg,happy\n", "line 4: 'a.jpg' has a label on line 2 already"),
        (b"file,emotion\ncaf\xe9.jpg,sad\n", "line 2: column 'file' is not UTF-8"),
    ],
)  # fmt: skip
def test_a_bad_table_of_labels_names_file_and_line(tmp_path, content, problem):
    with pytest.raises(SourceError, match=f"labels.csv: {problem}"):
        labels(tmp_path, content)


def test_a_label_without_its_photograph_is_named_and_is_no_missed_face():
    table = {
        "happy.jpg": "happy",
        "hapy1.jpg": "happy",
        "X.JPG": "sad",
        "s/y.jpg": "sad",
        "gone.jpg": "fear",
    }
    result = score(table, "happy.jpg", "happy1.jpg", "x.jpg", "y.jpg")
    assert result.result()["photographs"] == 1
    assert result.result()["faces_missed"] == 1
    assert result.result()["unlabelled"] == 3
    assert result.result()["not_read"] == ["hapy1.jpg", "X.JPG", "s/y.jpg", "gone.jpg"]
    assert result.advice().endswith(
        "hapy1.jpg (did you mean happy1.jpg?), X.JPG (did you mean x.jpg?), "
        "s/y.jpg (did you mean y.jpg?), gone.jpg"
    )


def test_a_label_of_a_damaged_photograph_is_no_missed_face():
    result = score({"a.jpg": "happy", "cut.jpg": "sad"}, "a.jpg")
    assert as_text(result.result()).startswith("1 labelled photographs: accuracy 0.0% of all")
    assert "cut.jpg" in result.advice()


def test_the_largest_face_of_a_photograph_is_scored():
    result = Score({"a.jpg": "happy"})
    readings = (testing.reading("happy"), testing.reading("sad"))
    result(Frame(None, 0, 0.0, "a.jpg"), readings)
    assert result.result()["accuracy"] == 1.0
    assert result.advice() == ""


def test_a_name_in_the_decomposed_letters_of_a_mac_is_the_same_name(tmp_path):
    table = labels(tmp_path, "file,emotion\ncafé.jpg,happy\n")
    result = score(table, "cafe\u0301.jpg")
    assert result.result()["photographs"] == 1
    assert result.advice() == ""
