"""Labels are compared with photographs that were read; a label of none is named and counts nowhere."""

from dataclasses import replace

import pytest
from mien_edge import testing
from mien_edge.chain.score import Score, as_text, read_labels
from mien_edge.errors import SourceError
from mien_edge.labels import LABELS
from mien_edge.values import Emotion, Frame


def labels(tmp_path, content, names=LABELS):
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(path, names)


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


def test_words_of_other_data_sets_mean_the_labels_of_the_model(tmp_path):
    table = "file,emotion\na.jpg,Anger\nb.jpg,happiness\nc.jpg,sleepy\n"
    assert labels(tmp_path, table, (*LABELS, "sleepy")) == {
        "a.jpg": "angry",
        "b.jpg": "happy",
        "c.jpg": "sleepy",
    }
    assert labels(tmp_path, table, ("sleepy", "anger", "joy")) == {
        "a.jpg": "anger",
        "b.jpg": "joy",
        "c.jpg": "sleepy",
    }


def test_a_photograph_of_a_label_that_the_model_has_not_is_counted_apart(tmp_path):
    names = ("happy", "sleepy")
    table = labels(
        tmp_path, "file,emotion\na.jpg,happy\nb.jpg,fear\nc.jpg,Contempt\nd.jpg,afraid\n", names
    )
    result = Score(table, names)
    for index, name in enumerate(("a.jpg", "b.jpg", "c.jpg", "d.jpg")):
        reading = replace(testing.reading(), emotion=Emotion(names, (0.8, 0.2)))
        result(Frame(None, index, 0.0, name), (reading,))
    scored = result.result()
    assert (scored["photographs"], scored["accuracy"], scored["macro_f1"]) == (1, 1.0, 1.0)
    assert scored["other_labels"] == {"fear": 1, "contempt": 1, "afraid": 1}
    assert scored["not_read"] == []
    assert result.advice() == ""
    assert as_text(scored).endswith("has no such label: fear (1), contempt (1), afraid (1)")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("name,emotion\na.jpg,happy\n", "line 1 names no column 'file', but 'name, emotion'"),
        ("file;emotion\na.jpg;happy\n", "line 1: its cells are separated by semicolons"),
        ("file,emotion\n\na.jpg\n", "line 3: 1 columns where 2 are needed"),
        ("file,emotion\n\n,sad\n", "line 3: it names no file"),
        ("file,emotion\na.jpg,hapy\n", r"line 2: the emotion 'hapy' is none of the model's: .* \(did you mean happy\?\); correct"),
        ("file,emotion\na.jpg,glücklich\n", "line 2: the emotion 'glücklich' is none of the model's: angry"),
        ("file,emotion\na.jpg,3\n", "line 2: the emotion '3' is none of the model's: angry"),
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
    assert as_text(result.result()).startswith(
        "1 labelled photographs: accuracy 0.0% [0.0%, 0.0%] of all"
    )
    assert "cut.jpg" in result.advice()


def test_the_largest_face_of_a_photograph_is_scored():
    result = Score({"a.jpg": "happy"})
    readings = (testing.reading("happy"), testing.reading("sad"))
    result(Frame(None, 0, 0.0, "a.jpg"), readings)
    assert result.result()["accuracy"] == 1.0
    assert result.advice() == ""


def test_of_the_labels_that_were_told_the_share_that_is_right_and_the_confidence_are_said():
    """Eight happy and two sad photographs; all are told 'happy' but one happy one, which is uncertain."""
    truths = ["happy"] * 8 + ["sad"] * 2
    result = Score({f"{number}.jpg": truth for number, truth in enumerate(truths)})
    for number in range(10):
        reading = testing.reading("happy", confidence=0.8)
        if number == 0:
            reading = replace(reading, label=None)
        result(Frame(None, number, 0.0, f"{number}.jpg"), (reading,))
    scored = result.result()
    assert (scored["accuracy"], scored["balanced_accuracy"]) == (0.8, 0.5)
    assert (scored["settled"], scored["uncertain"]) == (9, 1)
    assert scored["settled_accuracy"] == pytest.approx(7 / 9)
    assert scored["settled_confidence"] == pytest.approx(0.8)
    assert "9 were told a label: 77.8% [" in as_text(scored)


def test_an_interval_holds_its_share_and_is_narrower_with_more_photographs():
    def interval(count):
        result = Score({f"{number}.jpg": "happy" for number in range(count)})
        for number in range(count):
            label = "happy" if number % 4 else "sad"
            result(Frame(None, number, 0.0, f"{number}.jpg"), (testing.reading(label),))
        return result.result()["intervals"]["accuracy"]

    few = interval(40)
    many = interval(400)
    assert few[0] < 0.75 < few[1]
    assert many[0] < 0.75 < many[1]
    # a normal interval of 40 and 400 at 0.75 is 0.27 and 0.085 wide
    assert few[1] - few[0] == pytest.approx(0.27, abs=0.05)
    assert many[1] - many[0] == pytest.approx(0.085, abs=0.02)


def test_a_name_in_the_decomposed_letters_of_a_mac_is_the_same_name(tmp_path):
    table = labels(tmp_path, "file,emotion\ncafé.jpg,happy\n")
    result = score(table, "cafe\u0301.jpg")
    assert result.result()["photographs"] == 1
    assert result.advice() == ""
