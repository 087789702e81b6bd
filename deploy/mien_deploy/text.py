"""Text of a device, made fit for a terminal, a table or a log here: nothing in it acts."""

import re

MAX_LINE = 16384  # bytes
"""How much of one line is shown; the rest of it is counted."""

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


def shortened(line: bytes, cut: int = 0) -> str:
    """Return a line as `printable` does, its end replaced by a count where it is too long.

    cut: bytes of the line that are missing already.
    """
    missing = cut + max(0, len(line) - MAX_LINE)
    text = printable(line[:MAX_LINE])
    return f"{text} … ({missing} bytes more)" if missing else text


def brief(text: str, length: int = 500) -> str:
    """Return a text for one row of a table, cut to `length` characters."""
    return text if len(text) <= length else f"{text[:length]} …"
