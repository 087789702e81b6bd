"""Self-contained HTML pages: text, tables and pictures in one file; nothing else is loaded."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

_WIDE = 700  # pixels
_STYLE = """
:root { color-scheme: light dark; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #8886; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .6rem; text-align: right; overflow-wrap: normal; }
table.facts td { text-align: left; overflow-wrap: anywhere; }
table.facts th { font-weight: 600; white-space: nowrap; vertical-align: top; border: 0; }
th { border-bottom: 1px solid #8886; }
td:first-child, th:first-child { text-align: left; }
.wide { overflow-x: auto; }
img { max-width: 100%; background: white; border-radius: 4px; }
figure { margin: 1rem 0; }
figcaption, .note { color: #777; font-size: .9rem; }
pre { white-space: pre-wrap; background: #8882; padding: .7rem; }
summary { cursor: pointer; padding: .4rem 0; }
.gallery { display: grid; gap: .8rem .5rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); }
.gallery figure { margin: 0; }
.gallery img { width: 100%; max-width: 8rem; display: block; }
.gallery figcaption { font-size: .8rem; line-height: 1.3; white-space: pre-line; }
@media (max-width: 40rem) {
  body { margin: 1rem auto; }
  table { font-size: .8rem; }
  td, th { padding: .2rem .3rem; }
  table.facts th { white-space: normal; }
  .wide.drawing img { max-width: none; width: 40rem; }
}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """An HTML document: `title` as its heading, then the parts, which are HTML."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>"
        f"{''.join(parts)}</html>\n"
    )


def heading(text: str) -> str:
    """The heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def subheading(text: str) -> str:
    """The heading of a part of a section."""
    return f"<h3>{escape(text)}</h3>"


def bullets(sentences: Iterable[str]) -> str:
    """A list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and what they are; a long value is broken anywhere."""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
        for name, value in rows
    )
    return f'<table class="facts">{body}</table>'


def details(title: str, part: str) -> str:
    """A part, which is HTML, that is shown when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{part}</details>"


def gallery(pictures: Iterable[tuple[bytes, str]]) -> str:
    """Small PNGs in as many columns as there is room for, each with its own caption below it."""
    figures = "".join(
        f"<figure>{_image(png, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
        for png, caption in pictures
    )
    return f'<div class="gallery">{figures}</div>'


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
    """A drawing as PNG, with a caption below it that is its alternative text, too.

    On a phone a wide one keeps a size at which its letters can be read, and is moved sideways.
    """
    kind = "wide drawing" if _width(png) > _WIDE else "drawing"
    image = f'<div class="{kind}">{_image(png, caption)}</div>'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _width(png: bytes) -> int:
    """The width of a PNG in pixels, which its first chunk tells (ISO/IEC 15948, 11.2.2)."""
    return int.from_bytes(png[16:20], "big")


def _image(png: bytes, alternative: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{data}">'


def _cells(tag: str, row: Sequence[object]) -> str:
    return "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in row)
