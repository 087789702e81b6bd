"""Text of a device, cut to what a terminal or a table here can take."""

from mien_edge.text import printable

MAX_LINE = 16384  # bytes
"""How much of one line is shown; the rest of it is counted."""


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
