"""Text of others, made fit for a terminal, a table or a log: nothing in it acts.

Names of files, the texts of a bundle's card, of events and of other programs may hold what moves a
cursor or writes to a clipboard.
"""

import re

_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f"  # C0 but tab, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Unicode's bidirectional controls (UAX 9)
    "\u2028\u2029\ud800-\udfff\ufeff]"  # line and paragraph separators, surrogates, a BOM
)


def printable(content: bytes | str) -> str:
    """Return one line with everything that could act on a terminal escaped, such as '\\x1b'.

    content: UTF-8, or anything else; its bytes that are no UTF-8 are escaped, too. A carriage
    return at its end is left out. Letters of every language stay, and so does the tab.
    """
    text = content
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    return _UNSAFE.sub(_escape, text.removesuffix("\r"))


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def printable_lines(text: str) -> str:
    """Return a text of several lines as `printable` does, its line breaks kept."""
    return "\n".join(printable(line) for line in text.split("\n"))
