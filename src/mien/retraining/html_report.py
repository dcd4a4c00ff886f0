"""Markdown as one HTML page that opens offline, for those who have no pull request to read it in."""

import html
from pathlib import Path

from mien.files import write_text

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#22303c;max-width:60rem;margin:2rem auto;padding:0 1.2rem}
h1,h2{line-height:1.2}h3{margin-top:2rem;padding-top:.6rem;border-top:1px solid #e4e9ed}
table{border-collapse:collapse;margin:.8rem 0;font-size:.92em}
th,td{padding:.25rem .7rem;border:1px solid #e4e9ed;vertical-align:top;overflow-wrap:anywhere}th{background:#f4f7f9}
code{background:#f0f3f5;padding:.1em .3em;border-radius:3px;font-size:.92em}
pre{background:#f0f3f5;padding:.8rem 1rem;overflow-x:auto;border-radius:6px}pre code{padding:0;background:none}
img{max-width:min(100%,44rem);height:auto;margin:.4rem 0}summary{cursor:pointer}a{color:#0072b2}
@media(prefers-color-scheme:dark){body{background:#161b20;color:#dfe6eb}th{background:#212930}
th,td,h3{border-color:#333d46}code,pre{background:#212930}a{color:#56b4e9}img{background:#fff}}
"""


def write(path: Path, markdown: str, title: str) -> None:
    """Write `markdown` as the page `path`."""
    write_text(path, render(markdown, title))


def render(markdown: str, title: str) -> str:
    """The page; tables and <details> work as on GitHub."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    return f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n{body}</body></html>\n'
