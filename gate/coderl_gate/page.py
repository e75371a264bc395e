"""One HTML page in one file, without scripts or links: pictures are embedded, texts escaped, and it prints well."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Final

_STYLE: Final = """
body { font: 15px/1.5 Georgia, serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #111; background: #fff; }
h1, h2 { font-family: system-ui, sans-serif; line-height: 1.2; } h2 { margin-top: 2rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .25rem .9rem .25rem 0; text-align: right; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 1px solid #111; }
tbody tr { border-bottom: 1px solid #e5e5e5; }
figure { display: inline-block; margin: 0 0 1rem 0; max-width: 49%; } img { max-width: 100%; }
pre { font-size: .85em; line-height: 1.35; background: #f6f6f6; padding: .6rem .8rem; }
h4 { margin: 1rem 0 .3rem; font-family: system-ui, sans-serif; font-weight: 600; } mark { background: #fff3b0; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-size: .9em; overflow-wrap: anywhere; } .lead { font-size: 1.15em; } .warnings li { color: #8a3000; }
@media print { body { font-size: 11pt; margin: 0; max-width: none; } }
@media print { h2, figure, table { break-inside: avoid; break-after: auto; } }
"""


def document(title: str, sections: Sequence[str]) -> str:
    """The whole page around sections that are HTML already."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def items(title: str, texts: Sequence[str], kind: str = "") -> str:
    """A heading and a list; nothing where there are no texts."""
    if not texts:
        return ""
    return f'<h2>{escape(title)}</h2><ul class="{kind}">' + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as text."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def picture(png: bytes, words: str) -> str:
    """A picture, and what it shows for those who do not see it."""
    return f'<figure><img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></figure>'
