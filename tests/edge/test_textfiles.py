"""Text files and tables come from every kind of computer, and errors name the line that an editor shows."""

import io
from pathlib import PurePosixPath

import pytest
from mien_edge.credentials import read_secret
from mien_edge.errors import MienError, SettingsError
from mien_edge.settings import load_settings
from mien_edge.textfiles import Table, decode, is_hidden, open_lines
from mien_edge.update.signing import allowed_signers_line

WINDOWS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]


def windows(text, encoding):
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    return mark + text.replace("\n", "\r\n").encode(encoding)


def table(content, *columns):
    return Table(open_lines(io.BytesIO(content)), columns)


@pytest.mark.parametrize("encoding", WINDOWS)
def test_settings_a_password_and_a_key_of_windows_are_read(tmp_path, encoding):
    path = tmp_path / "file"
    path.write_bytes(windows('[publish]\nhost = "Küche"\n\n', encoding))
    assert load_settings(path).publish.host == "Küche"
    path.write_bytes(windows("geheim ä\n\n", encoding))
    assert read_secret(str(path), "", "a password", SettingsError) == "geheim ä"
    path.write_bytes(windows("ssh-ed25519 AAAA me@there\n", encoding))
    assert allowed_signers_line("me", path).endswith(" ssh-ed25519 AAAA\n")


def test_a_settings_file_of_an_old_mac_is_read(tmp_path):
    (tmp_path / "mien.toml").write_bytes(b'[publish]\rhost = "x"\r')
    assert load_settings(tmp_path / "mien.toml").publish.host == "x"


def test_a_text_that_is_not_utf8_names_its_line():
    with pytest.raises(MienError, match=r"^a\.txt: line 3 is not UTF-8; save it as UTF-8$"):
        decode(b"one\r\ntwo\r\ncaf\xe9", "a.txt", MienError)
    with pytest.raises(MienError, match=r"^a\.txt: UTF-16 that is cut off"):
        decode(b"\xff\xfea\0b", "a.txt", MienError)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_row_has_the_line_that_an_editor_shows(end):
    text = end.join(["", "a,b", "1, 2 ", "", " , ", '"3 ', 'x",4', "5,6", "", ""])
    rows = [(row.line, row["a"], row["b"]) for row in table(text.encode(), "a", "b")]
    assert rows == [(3, "1", "2"), (6, "3 \nx", "4"), (8, "5", "6")]


def test_columns_are_found_in_any_order_case_and_company():
    (row,) = table('\ufeff B ,c,"A"\n1,ü,3\n'.encode(), "a", "b")
    assert (row["a"], row["b"]) == ("3", "1")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"\r\nx,y\r\n", "line 2 names no column 'a', but 'x, y'"),
        (b"a;b\n1;2\n", "line 1: its cells are separated by semicolons; save it with commas"),
        (b"a,b,A\n", "line 1 names the column 'a' 2 times"),
        (b'a,b\n1,2\n"' + b"x\n" * 600_000, "line 3: a cell without an end .*; close its quotation mark"),
        (b"\xff\xfea\0,\0b\0\n\0001", "line 2: UTF-16 that is cut off"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_says_what_is_wrong_and_where(content, problem):
    with pytest.raises(ValueError, match=problem):
        list(table(content, "a", "b"))


def test_a_bad_row_does_not_spoil_the_others():
    rows = list(table(b"a,b,c\n1\n2,\xe9,3\n4,5,\xe9\n", "a", "b"))
    with pytest.raises(ValueError, match="1 columns where 2 are needed"):
        rows[0]["b"]
    with pytest.raises(ValueError, match="column 'b' is not UTF-8"):
        rows[1]["b"]
    assert (rows[2].line, rows[2]["a"], rows[2]["b"]) == (4, "4", "5")


def test_what_systems_put_beside_files_is_hidden():
    for name in ("__MACOSX/._a.csv", "train/angry/._im0.jpg", ".DS_Store", "__MACOSX/a.jpg"):
        assert is_hidden(PurePosixPath(name))
    assert not is_hidden(PurePosixPath("./train/angry/im0.jpg"))
