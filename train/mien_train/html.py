"""Self-contained HTML pages: text, tables and pictures in one file, nothing loaded from elsewhere."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #8886; }
table { border-collapse: collapse; margin: .8rem 0; } td, th { padding: .2rem .6rem; text-align: right; }
th { border-bottom: 1px solid #8886; } td:first-child, th:first-child { text-align: left; }
.wide { overflow-x: auto; } img { max-width: 100%; background: white; border-radius: 4px; } figure { margin: 1rem 0; }
figcaption, .note { color: #777; font-size: .9rem; } pre { white-space: pre-wrap; background: #8882; padding: .7rem; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """An HTML document of the given parts."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style><h1>{html.escape(title)}</h1>{''.join(parts)}</html>\n"
    )


def heading(text: str) -> str:
    """A section's heading."""
    return f"<h2>{html.escape(text)}</h2>"


def note(text: str) -> str:
    """A paragraph of explanation."""
    return f'<p class="note">{html.escape(text)}</p>'


def pre(text: str) -> str:
    """Text as it is."""
    return f"<pre>{html.escape(text)}</pre>"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; the first column is text, the others numbers."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def picture(content: bytes, caption: str) -> str:
    """A PNG within the page."""
    text = html.escape(caption)
    data = base64.b64encode(content).decode()
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
