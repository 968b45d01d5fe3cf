"""HTML as text: one self-contained page for light and dark screens and for paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from fastgshare.report.svg import clean

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5c6675; --rule: #d4d9e1; --paper: #ffffff; --card: #f6f8fa; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8ebf0; --soft: #a3adbb; --rule: #3a4250; --paper: #171b22; --card: #20262f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 940px; padding: 40px 20px 60px; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 30px; margin: 0 0 6px; letter-spacing: -0.01em; } h2 { font-size: 20px; margin: 46px 0 6px; }
p { margin: 6px 0 14px; max-width: 46em; } .soft, figcaption { color: var(--soft); } figcaption { font-size: 14px; }
.tiles { display: flex; flex-wrap: wrap; gap: 14px; margin: 26px 0 8px; }
.tile { flex: 1 1 200px; background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; padding: 14px 18px; }
.tile b { display: block; font-size: 32px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 14px; line-height: 1.35; display: block; }
figure { margin: 14px 0 0; overflow-x: auto; } figure svg { max-width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 15px; }
th, td { text-align: left; vertical-align: top; padding: 8px 14px 8px 0; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--soft); font-size: 13px; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td { overflow-wrap: break-word; min-width: 5em; } td.number + td, th.number + th { padding-left: 20px; }
td:last-child, th:last-child { padding-right: 0; } figure + .scroll { margin-top: 16px; }
td:first-child { white-space: nowrap; } td i { font-style: normal; color: var(--soft); }
.dot { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px; }
@media print { body { padding: 0; max-width: none; } h2 { break-after: avoid; }
  figure, .tile, tr { break-inside: avoid; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

Raw = tuple[str]
"""A one-tuple: text that is HTML already."""


def page(title: str, *parts: str) -> str:
    """A whole HTML document of finished parts, without anything from outside."""
    name = escape(clean(title))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{name}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(part for part in parts if part) + "\n</body></html>\n"
    )


def paragraph(content: str, class_: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{class_}">{escape(clean(content))}</p>' if class_ else f"<p>{escape(clean(content))}</p>"


def heading(content: str, level: int = 2) -> str:
    """A heading of plain text."""
    return f"<h{level}>{escape(clean(content))}</h{level}>"


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Large figures, each with the words that say what it is."""
    shown = (f'<div class="tile"><b>{escape(clean(a))}</b><span>{escape(clean(b))}</span></div>' for a, b in figures)
    return f'<div class="tiles">{"".join(shown)}</div>'


def figure(svg: str, caption: str) -> str:
    """A picture with its caption."""
    return f"<figure>{svg}<figcaption>{escape(clean(caption))}</figcaption></figure>"


def dotted(name: str, colour: str) -> Raw:
    """A table cell: a name behind a dot of its colour."""
    return (f'<span class="dot" style="background:{escape(colour)}"></span>{escape(clean(name))}',)


def named(values: Mapping[str, str]) -> Raw:
    """A table cell: one line for each name and its value."""
    lines = (f"<i>{escape(clean(name))}</i> {escape(clean(value))}" for name, value in values.items())
    return ("<br>".join(lines),)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Raw]], numbers: frozenset[int] = frozenset()) -> str:
    """A table; the columns whose index is in `numbers` are set right."""
    classes = [' class="number"' if i in numbers else "" for i in range(len(columns))]
    head = "".join(f"<th{c}>{escape(clean(name))}</th>" for c, name in zip(classes, columns, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{c}>{_cell(cell)}</td>" for c, cell in zip(classes, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(*groups: Mapping[str, object]) -> str:
    """Names and values as a two-column table."""
    return table(("what", "value"), [(name, _said(value)) for group in groups for name, value in group.items()])


def _cell(cell: str | Raw) -> str:
    return cell[0] if isinstance(cell, tuple) else escape(clean(cell))


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_said(v)}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_said(v) for v in value)
    return str(value)
