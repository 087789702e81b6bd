"""Each room's README is a map of the room: every module is on it, and the Makefile's list names every target."""

import re

import pytest
from helpers import ROOT

ROOMS = {"edge": "mien_edge", "train": "mien_train", "deploy": "mien_deploy"}


def modules(package):
    """Every module below the folder, as `folder/name` or `name`; packages and `__main__` aside."""
    paths = (path.relative_to(package).with_suffix("") for path in package.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if path.name not in ("__init__", "__main__"))


def named(text):
    """The modules that a README names.

    Either in full, in backticks (`chain/track`, `mien_edge/chain/track.py`), or in a row of a table whose first cell is
    the folder (`chain/`) and which lists the modules in backticks after it.
    """
    names = set()
    for line in text.splitlines():
        words = [
            re.sub(r"^mien_\w+/|\.py$|/$", "", word) for word in re.findall(r"`([\w/.]+)`", line)
        ]
        names.update(words)
        if re.match(r"\|\s*`[\w/]+/`", line):
            folder = words[0]
            names.update(f"{folder}/{word}" for word in words[1:])
    return names


def missing(package, text):
    """The modules of the package that the text does not name."""
    return sorted(set(modules(package)) - named(text))


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_is_on_the_rooms_map(room):
    assert missing(ROOT / room / ROOMS[room], (ROOT / room / "README.md").read_text()) == []


def test_a_module_that_is_not_on_the_map_is_noticed(tmp_path):
    for name in (
        "__init__.py",
        "cli.py",
        "chain/__init__.py",
        "chain/track.py",
        "chain/smooth.py",
        "log/writer.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    table = "| `cli` | commands |\n| `chain/` | `track`, `smooth` |\n"
    assert missing(tmp_path, table) == ["log/writer"]
    assert missing(tmp_path, table + "and `mien_edge/log/writer.py`") == []
    assert missing(tmp_path, table + "and `writer`") == ["log/writer"]


def test_make_help_names_every_target():
    text = (ROOT / "Makefile").read_text()
    (targets,) = re.findall(r"^\.PHONY: (.*)$", text, re.M)
    assert re.findall(r"^# make (\S+)  ", text, re.M) == targets.split()
