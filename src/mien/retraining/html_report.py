"""Markdown as one HTML page that opens offline, for those who have no pull request to read it in."""

import html
from collections.abc import Mapping
from pathlib import Path

from mien.files import write_text

STYLE = """
body{font:16px/1.55 system-ui,sans-serif;color:#22303c;background:#fff;
max-width:58rem;margin:2rem auto;padding:0 1.2rem}
h1,h2{line-height:1.2}h2{margin-top:2.6rem}h3{margin-top:2rem;padding-top:.6rem;border-top:1px solid #e4e9ed}
.wide{overflow-x:auto;margin:.8rem 0}table{border-collapse:collapse;font-size:.9em}
th,td{padding:.3rem .7rem;border-bottom:1px solid #e4e9ed;vertical-align:top;text-align:left}
td{font-variant-numeric:tabular-nums}th{background:#f4f7f9}thead:not(:has(th:not(:empty))){display:none}
.badge,td.passed,td.refused{font-weight:600;white-space:nowrap}
.badge{padding:.1rem .6rem;border-radius:1rem;color:#fff;font-size:.85em}
.badge.good{background:#00735c}.badge.stop{background:#b04300}td.passed{color:#00735c}td.refused{color:#b04300}
.bars{display:grid;grid-template-columns:auto 1fr auto;gap:.3rem .7rem;align-items:center;
max-width:34rem;margin:.8rem 0}
.bars i{display:block;height:.9rem;border-radius:3px;background:#8a99a5}.bars i.challenger{background:#0072b2}
code{background:#f0f3f5;padding:.1em .3em;border-radius:3px;font-size:.9em;overflow-wrap:anywhere}
pre{background:#f0f3f5;padding:.8rem 1rem;overflow-x:auto;border-radius:6px}
pre code{padding:0;background:none;overflow-wrap:normal}
img{display:block;max-width:min(100%,44rem);height:auto;margin:.6rem 0;border-radius:6px}
summary{cursor:pointer}a{color:#0072b2}
@media(max-width:40rem){body{margin:1rem auto;padding:0 .8rem}th,td{padding:.25rem .45rem}h1{font-size:1.5rem}}
@media(prefers-color-scheme:dark){body{background:#161b20;color:#dfe6eb}th,code,pre{background:#212930}
th,td,h3{border-color:#333d46}a{color:#56b4e9}img{background:#fff}td.passed{color:#35b597}td.refused{color:#f08a4b}}
"""

CELLS = {
    "<td>passed</td>": '<td class="passed">passed</td>',
    "<td><strong>refused</strong></td>": '<td class="refused">refused</td>',
    "<table>": '<div class="wide"><table>',
    "</table>": "</table></div>",
}
"""What Markdown cannot say: colours of verdicts, and tables that scroll by themselves on a phone."""


def write(path: Path, markdown: str, title: str) -> None:
    """Write `markdown` as the page `path`."""
    write_text(path, render(markdown, title))


def render(markdown: str, title: str) -> str:
    """The page; tables and <details> work as on GitHub."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    for plain, styled in CELLS.items():
        body = body.replace(plain, styled)
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{view}<title>{html.escape(title)}</title>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n{body}</body></html>\n'


def bars(title: str, values: Mapping[str, float]) -> str:
    """Shares of 1 as bars, one under another, each with its name and value; one line of HTML."""
    rows = (
        f'<span>{html.escape(name)}</span><i class="{html.escape(name)}" style="width:{100 * value:.1f}%"></i>'
        f"<span>{html.escape(title)} {value:.3f}</span>"
        for name, value in values.items()
    )
    return f'<div class="bars">{"".join(rows)}</div>'
