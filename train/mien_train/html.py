"""Self-contained HTML pages: text, tables and pictures in one file; nothing else is loaded."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

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
    """An HTML document: `title` as its heading, then the parts, which are HTML."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>"
        f"{''.join(parts)}</html>\n"
    )


def heading(text: str) -> str:
    """The heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def note(text: str) -> str:
    """A paragraph of explanation."""
    return f'<p class="note">{escape(text)}</p>'


def pre(text: str) -> str:
    """Preformatted text, its line breaks as they are."""
    return f"<pre>{escape(text)}</pre>"


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table of cells as str() writes them; the first column is aligned as text, the others as
    numbers.
    """
    head = _cells("th", header)
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def picture(png: bytes, caption: str) -> str:
    """A PNG within the page, with a caption below it that is its alternative text, too."""
    text = escape(caption)
    data = base64.b64encode(png).decode()
    image = f'<img alt="{text}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _cells(tag: str, row: Sequence[object]) -> str:
    return "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in row)
