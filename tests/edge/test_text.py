"""What others have written acts on no terminal here."""

import pytest
from mien_edge import cli, formats, testing
from mien_edge.events import EventKind
from mien_edge.log.writer import LogWriter
from mien_edge.settings import LogSettings
from mien_edge.text import printable, printable_lines

CLIPBOARD = "\x1b]52;c;cm0gLXJmIC8=\x07"


@pytest.mark.parametrize("text", [CLIPBOARD, "\x1b[2K\x1b[1A", "\u202egnp.exe", "a\rb", "\x9b31m"])
def test_what_acts_on_a_terminal_is_escaped(text):
    assert printable(text).isprintable()
    assert printable(text) != text


def test_words_of_every_language_stay():
    assert printable("廚房 Küche\tقهوة 😀") == "廚房 Küche\tقهوة 😀"
    assert printable_lines("one\ntwo\x1b") == "one\ntwo\\x1b"


def test_a_log_an_error_and_a_reading_print_no_escape_sequence(tmp_path, capsys):
    log = LogWriter(tmp_path / "log.db", LogSettings())
    log.event(EventKind.FAILED, CLIPBOARD)
    log.close()
    assert cli.main(["logs", "--log", str(log.path)]) == 0
    assert cli.main(["logs", "--log", f"no{CLIPBOARD}"]) == 1
    output = capsys.readouterr()
    assert "\x1b" not in output.out + output.err
    assert "\\x1b]52" in output.out
    assert "\\x1b]52" in output.err
    reading = testing.reading("happy", 0.0)
    assert "\x1b" not in formats.line(reading.__class__(**{**_fields(reading), "model": CLIPBOARD}))


def _fields(reading):
    return {name: getattr(reading, name) for name in reading.__slots__}
