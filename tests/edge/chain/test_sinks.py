"""The console."""

import io

from mien_edge import testing
from mien_edge.chain import sinks


def test_the_console_tells_changes_once_and_the_empty_picture():
    out = io.StringIO()
    console = sinks.Console(out)
    for moment, label in [(0, "happy"), (0.1, "happy"), (0.2, "sad"), (1.3, "sad")]:
        console((testing.reading(label, moment),))
    console(())
    console(())
    lines = out.getvalue().splitlines()
    assert [word for line in lines for word in ("happy", "sad", "no face") if word in line] == [
        "happy", "sad", "sad", "no face",
    ]  # fmt: skip
    assert "face 1" in lines[0]
    assert "90%" in lines[0]
    assert lines[0].endswith("fake-1")


def test_the_console_says_why_there_is_no_label():
    out = io.StringIO()
    sinks.Console(out)((testing.reading(None, quality="too small"),))
    assert "(too small)" in out.getvalue()
