"""Text of others, made fit for a terminal, a table or a log: nothing in it acts.

Names of files, the texts of a bundle's card, of events and of other programs may hold what moves a
cursor or writes to a clipboard.
"""

import codecs
import os
import re
from pathlib import Path

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f"  # C0 but tab, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Unicode's bidirectional controls (UAX 9)
    "\u2028\u2029\ud800-\udfff\ufeff]"  # line and paragraph separators, surrogates, a BOM
)


def printable(content: bytes | str) -> str:
    """Return one line with everything that could act on a terminal escaped, such as '\\x1b'.

    content: UTF-8, or anything else; its bytes that are no UTF-8 are escaped, too (encodable). A
    carriage return at its end is left out. Letters of every language stay, and so does the tab.
    """
    if isinstance(content, bytes):
        text = content.decode(errors="backslashreplace")
    else:
        text = encodable(content)
    return _UNSAFE.sub(_escape, text.removesuffix("\r"))


def encodable(text: str) -> str:
    """Return a text that every UTF-8 file, database and JSON takes.

    The bytes of a file's name that are not UTF-8, which Python holds as surrogates
    (surrogateescape, PEP 383), are written as '\\xe9'.
    """
    if not _SURROGATE.search(text):
        return text
    try:
        content = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte, as of somebody's JSON
        return _SURROGATE.sub(_escape, text)
    return content.decode(errors="backslashreplace")


def file_name(path: str | Path) -> str:
    """Return a file's name or path as readings, logs and exports hold it: its bytes as UTF-8,
    whatever the locale, and those that are not UTF-8 written as '\\xe9'.
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def _escape(match: re.Match[str]) -> str:
    return _escape_letter(match[0])


def _escape_letter(letter: str) -> str:
    number = ord(letter)
    if 0xDC80 <= number <= 0xDCFF:  # a byte, of surrogateescape
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _escape_unencodable(problem: UnicodeError) -> tuple[str, int]:
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    letters = problem.object[problem.start : problem.end]
    return "".join(map(_escape_letter, letters)), problem.end


ESCAPE = "mien-escape"
"""The name of an error handler of codecs: what an output's alphabet lacks is escaped, such as
'\\u2026', and so are bytes of names that are not UTF-8.
"""

codecs.register_error(ESCAPE, _escape_unencodable)


def printable_lines(text: str) -> str:
    """Return a text of several lines as `printable` does, its line breaks kept."""
    return "\n".join(printable(line) for line in text.split("\n"))
