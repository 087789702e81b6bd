"""The user's table of groups: how it names pictures, and what is wrong with it; the command from table to card."""

import json
import shutil

import numpy as np
import pytest
from mien_edge.errors import DataError
from mien_edge.model.bundle import load_bundle
from mien_train import cli
from mien_train.data.read import Dataset
from mien_train.results.evaluation import Evaluation
from mien_train.results.fairness import FairnessResult
from mien_train.results.group_table import read_group_table


def dataset(*names):
    """Rows with these files' names."""
    count = len(names)
    return Dataset(
        images=np.zeros((count, 48, 48), np.uint8),
        labels=np.zeros(count, np.int8),
        usages=np.zeros(count, np.int8),
        row_numbers=np.arange(count, dtype=np.int32) * 2,
        sha256="0" * 64,
        names=np.array(names) if count else None,
    )


FILES = dataset("happy/anna.jpg", "sad/bo.jpg", "sad/anna.jpg")


def table(tmp_path, text, data=FILES, columns=()):
    path = tmp_path / "groups.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_group_table(path, data, columns)


def test_pictures_are_named_by_path_or_by_a_name_that_only_one_has(tmp_path):
    text = "file,Age\nhappy\\anna.jpg,18-39\nbo.jpg, 60+ \n./sad/anna.jpg,\n"
    assert table(tmp_path, text).columns["Age"].tolist() == ["18-39", "60+", ""]
    with pytest.raises(DataError, match=r"names no picture of the data, which calls one 'bo.jpg'"):
        table(tmp_path, "file,age\nanna.jpg,60+\n")


def test_rows_are_named_by_their_number_in_the_data(tmp_path):
    result = table(tmp_path, "row,skin tone\n4,dark\n0,light\n7,dark\n")
    assert result.columns["skin tone"].tolist() == ["light", "", "dark"]
    assert result.unknown_as_text() == "groups.csv: not in the data, and not counted: 7"


def test_what_windows_makes_of_a_table_is_read_and_capitals_make_no_group(tmp_path):
    text = '\ufefffile,gender\r\nbo.jpg,"Female"\r\n\r\nsad/anna.jpg,female\r\n'
    for content in (text.encode("utf-8"), text.encode("utf-16")):
        assert table(tmp_path, content).columns["gender"].tolist() == ["", "Female", "Female"]


def test_pairs_of_columns_are_crossed_where_both_are_known(tmp_path):
    text = "file,age,gender,glasses\nbo.jpg,60+,man,no\nsad/anna.jpg,60+,,no\n"
    crossed = table(tmp_path, text, columns=["age", "gender"]).with_intersections().columns
    assert list(crossed) == ["age", "gender", "age × gender"]
    assert crossed["age × gender"].tolist() == ["", "60+ × man", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,age\nbo.jpg,60+\n",
            "it has the columns 'name, age'; give a CSV with a column 'file'",
        ),
        ("file\nbo.jpg\n", "no column with groups"),
        ("file,age\nbo.jpg\n", "line 2: 1 columns where 2 are needed"),
        ("file,age\nbo.jpg,60+\nsad/bo.jpg,60+\n", "line 3: 'sad/bo.jpg' stands on line 2 already"),
        ("file,age,age\nbo.jpg,1,2\n", "line 1 names the column 'age' 2 times"),
        ("file;age\nbo.jpg;60+\n", "semicolons"),
        ("", "give a CSV"),
    ],
)
def test_a_table_that_does_not_do_is_one_line_that_names_it(tmp_path, text, message):
    with pytest.raises(DataError) as raised:
        table(tmp_path, text)
    assert str(raised.value).startswith(str(tmp_path / "groups.csv"))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_numbers_are_no_groups(tmp_path):
    names = [f"{number}.jpg" for number in range(60)]
    text = "file,age\n" + "".join(f"{name},{age}\n" for age, name in enumerate(names))
    with pytest.raises(DataError, match="60 different values; write classes, such as 18-39"):
        table(tmp_path, text, dataset(*names))


def test_a_column_that_is_not_there_and_a_file_that_is_not_are_named(tmp_path):
    with pytest.raises(DataError, match="no column 'tone'; its columns: age"):
        table(tmp_path, "file,age\nbo.jpg,60+\n", columns=["tone"])
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        read_group_table(tmp_path / "none.csv", FILES)
    with pytest.raises(DataError, match="no file names; name them in a column 'row'"):
        table(tmp_path, "file,age\nbo.jpg,60+\n", dataset())


@pytest.fixture
def groups(tmp_path):
    """A table of the small data's 364 rows: two sides of a street, and few of a third."""
    names = ["east" if row % 2 else "west" for row in range(350)] + ["north"] * 14
    path = tmp_path / "groups.csv"
    lines = [f"{row},{name},{'yes' if row % 3 else 'no'}" for row, name in enumerate(names)]
    path.write_text("row,street,glasses\n" + "\n".join(lines) + "\n")
    return path


def measure(target, small, groups, tmp_path, *more):
    picture = tmp_path / "out.png"
    command = ["fairness", str(target), "--data", str(small), "--groups", str(groups), "--json"]
    return cli.main([*command, "--out", str(picture), *more])


def test_the_command_measures_draws_and_writes_into_an_unsigned_card_only(
    copy, small, groups, tmp_path, capsys
):
    page = tmp_path / "page.html"
    assert measure(copy, small, groups, tmp_path, "--write", "--html", str(page)) == 0
    [values] = json.loads(capsys.readouterr().out)
    result = FairnessResult.from_json(values, "stdout")
    assert [group.group for group in result.columns["street"]] == ["east", "north", "west"]
    assert (result.rows, result.test_name, result.tests) == (364, "all rows", 6)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert "street &#x27;north&#x27; (14)" in page.read_text()
    card = load_bundle(copy).card
    assert card.metrics["fairness"] == values
    assert Evaluation.from_json(card.metrics, "card").to_json() == card.metrics
    before = (copy / "card.json").read_bytes()
    (copy / "card.json.sig").write_text("a signature")
    assert measure(copy, small, groups, tmp_path, "--write") == 1
    assert "mien-deploy sign" in capsys.readouterr().err
    assert (copy / "card.json").read_bytes() == before


def test_a_run_is_measured_on_its_test_rows_and_its_report_shows_the_groups(
    tiny_run, small, groups, tmp_path, capsys
):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    assert measure(run, small, groups, tmp_path, "--intersections") == 0
    [values] = json.loads(capsys.readouterr().out)
    assert (values["test_name"], values["rows"]) == ("PublicTest", 56)
    assert list(values["columns"]) == ["street", "glasses", "street × glasses"]
    assert cli.main(["report", str(run)]) == 0
    assert "<h2>By groups of people</h2>" in (run / "report.html").read_text()


def test_groups_of_other_rows_than_those_that_are_measured_are_refused(
    tiny_run, small, tmp_path, capsys
):
    table = tmp_path / "groups.csv"
    table.write_text("row,street\n0,east\n1,west\n")
    bundle = tiny_run / "models" / "tiny-1"
    assert measure(bundle, small, table, tmp_path) == 1
    assert "none of the 56 pictures that are measured (PublicTest)" in capsys.readouterr().err
