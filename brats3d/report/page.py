"""The page around a report's sections: its style, its script, and what every element needs. Nothing is fetched.

The Content-Security-Policy makes the browser hold what is promised: no request leaves the page, whatever stands in it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from brats3d.labels import REGION_COLOURS, REGION_NAMES, REGIONS_TO_READ

Cell = tuple[str, float | None] | str
"""What a table shows, escaped already; with the number that it is sorted by, where that is one."""

GENERATOR = '<meta name="generator" content="brats3d report">'
"""By which an earlier report is told from a page of somebody else's."""


def page(title: str, sections: Sequence[tuple[str, str, str]], header: str) -> str:
    """The whole page.

    Args:
        title: of the page, not escaped.
        sections: (id, heading, HTML) of each; the heading is not escaped.
        header: HTML that stands above them.
    """
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in sections)
    body = "".join(section(name, heading, content) for name, heading, content in sections)
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="referrer" content="no-referrer">'
        f"{GENERATOR}"
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head>\n'
        f"<body><header><h1>{escape(title)}</h1>{header}</header>\n"
        f'<nav aria-label="Sections">{links}</nav>\n<main>{body}</main>\n'
        f"<footer><p>Research only. Not a medical device.</p></footer><script>{SCRIPT}</script></body></html>\n"
    )


def section(name: str, heading: str, content: str) -> str:
    """A section under its heading."""
    return f'<section id="{name}"><h2>{escape(heading)}</h2>{content}</section>\n'


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str, kind: str, group: str = "") -> str:
    """A table that scrolls within itself; the first cell of each row names it.

    Args:
        head: the columns' names, as HTML.
        rows: of cells, as HTML.
        caption: what the table says, as HTML.
        kind: classes of the style: ``cases`` where the rows are named by cases, ``sortable`` where a click on a
            column's name sorts by it, ``grouped`` where neighbouring rows of the same name belong together.
        group: a first line of the head, as HTML.
    """
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines, before = [], None
    for row in rows:
        first = ' class="first"' if "grouped" in kind and row[0] != before else ""
        before = row[0]
        lines.append(f"<tr{first}>{''.join(_cell(cell, i == 0) for i, cell in enumerate(row))}</tr>")
    return (
        f'<div class="scroll{" long" if "cases" in kind else ""}" tabindex="0" role="region" aria-label="Table">'
        f'<table class="{kind}">'
        f"<caption>{caption}</caption><thead>{group}<tr>{names}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def listing(items: Iterable[str], kind: str = "") -> str:
    """A list of lines, as HTML; nothing where there are none."""
    lines = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="{kind}">{lines}</ul>' if lines else ""


def figure(uri: str, alt: str, caption: str = "", size: tuple[int, int] | None = None) -> str:
    """A picture with its caption, which is HTML.

    Args:
        uri: of the picture.
        alt: not escaped.
        caption: HTML.
        size: width and height in pixels, so that nothing jumps while the page is laid out.
    """
    room = f' width="{size[0]}" height="{size[1]}"' if size else ""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img src="{uri}" alt="{escape(alt)}"{room}>{below}</figure>'


def legend() -> str:
    """The regions in their colours."""
    items = (f"<li>{swatch(region)}{region} {REGION_NAMES[region]}</li>" for region in REGIONS_TO_READ)
    return f'<ul class="legend" aria-label="Colours of the regions">{"".join(items)}</ul>'


def swatch(region: str) -> str:
    """A region's colour."""
    return f'<span class="swatch" style="background:{REGION_COLOURS[region]}" aria-hidden="true"></span>'


def data_uri(content: bytes, kind: str) -> str:
    """Content that stands in the page itself.

    Args:
        content: of the file.
        kind: such as ``image/png``.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def description(pairs: Mapping[str, str]) -> str:
    """Names and what they are, both as HTML."""
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in pairs.items()) + "</dl>"


def _cell(cell: Cell, names_row: bool) -> str:
    text, number = (cell, None) if isinstance(cell, str) else cell
    key = "" if number is None else f' data-sort="{number!r}"'
    return f'<th scope="row"{key}>{text}</th>' if names_row else f"<td{key}>{text}</td>"


_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)

STYLE = """
:root { color-scheme: light; --line: #d5d9de; --quiet: #555e68; --soft: #f4f6f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 0 1.25rem 3rem; color: #15191e; background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere; }
header { padding: 1.5rem 0 .5rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: .5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p, ul { margin: .5rem 0; }
a { color: #00518a; }
.warning { border-left: 4px solid #d55e00; background: #fdf3ec; padding: .5rem .75rem; }
.remark { border-left: 4px solid #8a929b; background: var(--soft); padding: .5rem .75rem; list-style: none; }
.quiet, figcaption, caption { color: var(--quiet); font-size: .875rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: .6rem 0; }
nav a { padding: .3rem 0; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .5rem 1.5rem; margin: 1rem 0; }
dt { color: var(--quiet); font-size: .875rem; }
dd { margin: 0; }
pre { background: var(--soft); padding: .75rem; margin: .5rem 0; overflow-x: auto; font-size: .85rem;
  overflow-wrap: normal; }
.scroll { overflow: auto; margin: 1rem 0; }
.scroll.long { max-height: 36rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .35rem .7rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
[data-sort], .cases.sortable thead th:not(:first-child) { text-align: right; }
.measures th:nth-child(n+3), .measures td:last-child { text-align: right; }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
.cases th:first-child { min-width: 8rem; max-width: 16rem; white-space: normal; overflow-wrap: anywhere; }
thead { position: sticky; top: 0; background: #fff; z-index: 1; }
thead th { vertical-align: bottom; border-bottom: 2px solid #8a929b; }
.cases.sortable thead th.group { text-align: center; border-bottom-width: 1px; }
tbody th { font-weight: 500; }
tbody tr:hover > * { background: var(--soft); }
tr.first:not(:first-child) > * { border-top: 2px solid #8a929b; }
th button { all: unset; cursor: pointer; }
th button::after { content: " \\2195"; color: #8a929b; }
th[aria-sort=ascending] button::after { content: " \\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: " \\2193"; color: inherit; }
button:focus-visible, .scroll:focus-visible, iframe:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; list-style: none; padding: 0; }
.tiles { display: grid; grid-template-columns: repeat(3, 1fr); gap: .75rem; padding: 0; list-style: none; }
.tiles li { border: 1px solid var(--line); border-top-width: 5px; border-radius: 4px; padding: .6rem .8rem; }
.tiles strong { display: block; font-size: 1.7rem; line-height: 1.2; }
.tiles span { color: var(--quiet); font-size: .875rem; display: block; }
figure { margin: 0; }
img { max-width: 100%; height: auto; display: block; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
.charts img { width: 100%; }
.panels { display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem; }
.panels img { width: 100%; background: #000; }
.thumbnails { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.thumbnails img { width: 100%; background: #000; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; }
.pair[hidden] { display: none; }
.pair figcaption { color: inherit; font-weight: 600; }
.pair iframe { border: 0; width: 100%; display: block; background: #fff; }
fieldset { border: 0; padding: 0; margin: .25rem 0 .5rem; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
legend { float: left; margin-right: 1rem; padding: .25rem 0; }
fieldset label { padding: .25rem 0; cursor: pointer; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); color: var(--quiet); }
@media (max-width: 40rem) {
  body { padding: 0 .9rem 2rem; }
  dl { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
  .panels { grid-template-columns: 1fr 1fr; }
  .pair { grid-template-columns: 1fr; }
  .tiles { gap: .4rem; }
  .tiles li { padding: .4rem .5rem; }
  .tiles strong { font-size: 1.25rem; }
  .thumbnails { grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: .75rem; }
  th, td { padding: .35rem .5rem; }
  .cases th:first-child { max-width: 9rem; }
}
@media print {
  body { max-width: none; font-size: 10pt; padding: 0; }
  nav, #viewer { display: none; }
  pre { white-space: pre-wrap; }
  .scroll, .scroll.long { overflow: visible; max-height: none; }
  thead, th:first-child { position: static; }
  table { font-size: 7.5pt; }
  th, td { padding: 1pt 3pt; }
  th button::after { content: none; }
  figure, tr, .tiles { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .warning, .remark, .swatch, .tiles li { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        const order = typeof x === "number" ? x - y : x.localeCompare(y, undefined, {numeric: true});
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}

/* The two pictures of a viewer move together, and with the arrow keys by a voxel. */
const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
for (const viewer of document.querySelectorAll(".viewer")) {
  const frames = [...viewer.querySelectorAll("iframe")];
  const points = JSON.parse(viewer.dataset.points);
  const across = Number(viewer.dataset.across);
  let last = points[1];
  const canvasOf = (frame) => frame.contentDocument && frame.contentDocument.querySelector("canvas");
  const click = (frame, [x, y]) => {
    const canvas = canvasOf(frame);
    if (!canvas || !canvas.clientWidth) return;
    const box = canvas.getBoundingClientRect();
    const place = {clientX: box.left + x * box.width, clientY: box.top + y * box.height};
    canvas.dispatchEvent(new frame.contentWindow.MouseEvent("click", place));
  };
  const moved = [];  /* the last click in each view, so that a frame that is shown later can follow */
  const move = (point, from) => {
    last = point;
    moved.push(point);
    if (moved.length > 8) moved.shift();
    frames.forEach((frame) => frame === from || click(frame, point));
  };
  const fit = (frame) => {
    const page = frame.contentDocument.documentElement;
    if (page.clientWidth) frame.style.height = frame.contentDocument.body.scrollHeight + 4 + "px";
  };
  const catchUp = (frame) => [...points, ...moved].forEach((point) => click(frame, point));
  const ready = (frame) => {
    const canvas = canvasOf(frame);
    if (!canvas || frame.dataset.ready) return;
    frame.dataset.ready = "yes";
    const body = frame.contentDocument.body;
    body.style.cssText = "margin:0;overflow:hidden;font:14px system-ui,sans-serif";
    const slider = frame.contentDocument.querySelector("input[type=range]");
    if (slider) slider.value = 50;
    canvas.tabIndex = 0;
    canvas.style.display = "block";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", frame.title);
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    canvas.addEventListener("click", (event) => event.isTrusted && move(place(event), frame));
    canvas.addEventListener("mousemove", (event) => event.isTrusted && event.buttons & 1 && move(place(event), frame));
    canvas.addEventListener("keydown", (event) => {
      const [right, down] = arrows[event.key] || [0, 0];
      if (!right && !down) return;
      event.preventDefault();
      const voxel = 1 / across;
      const tall = canvas.width / canvas.height;
      move([last[0] + right * voxel, last[1] + down * voxel * tall], null);
    });
    new frame.contentWindow.ResizeObserver(() => fit(frame)).observe(body);
    fit(frame);
    setTimeout(() => catchUp(frame), 0);
  };
  for (const frame of frames) {
    frame.addEventListener("load", () => ready(frame));
    if (frame.contentDocument && frame.contentDocument.readyState === "complete") ready(frame);
  }
  for (const choice of viewer.querySelectorAll("input[type=radio]")) {
    choice.addEventListener("change", () => {
      for (const pair of viewer.querySelectorAll(".pair")) pair.hidden = pair.dataset.sequence !== choice.value;
      setTimeout(() => frames.forEach((frame) => { if (frame.clientWidth) { fit(frame); catchUp(frame); } }), 60);
    });
  }
}
"""
