"""What every report is made of: the HTML shell, its style, and the parts that pages share.

A page loads nothing and runs nothing. Every text is escaped here, but for what its name calls HTML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from alpaca_labeler.report.charts import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Contrast of every text with its ground is at least 4.5 : 1, light and dark.
STYLE: Final = """
:root {
  --paper: #faf8f4; --surface: #ffffff; --ink: #1f2328; --soft: #5d646d; --line: #e6e1d8;
  --a: #0b7268; --b: #7a6a9e; --warm: #b4410e; --warm-ground: 196, 80, 20; --a-ground: 11, 114, 104;
  --band: #f3e3c3; --track: #ebe7df;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --surface: #1c1f25; --ink: #e9e6e0; --soft: #a3a9b2; --line: #30343c;
    --a: #52cbbb; --b: #b3a3dc; --warm: #ff9d66; --warm-ground: 255, 130, 70; --a-ground: 60, 190,
      175;
    --band: #4a3d22; --track: #30343c;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: clamp(20px, 5vw, 64px) clamp(16px, 4vw, 40px) 64px; max-width: 1120px;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word;
}
h1, h2, h3, p, ul, figure { margin: 0; padding: 0; }
ul { list-style: none; }
h1 { font-size: clamp(28px, 5vw, 44px); line-height: 1.12; letter-spacing: -.02em; text-wrap:
  balance;
  overflow-wrap: anywhere; }
h2 { font-size: 24px; line-height: 1.25; letter-spacing: -.01em; }
h3 { font-size: 15px; font-weight: 600; }
.eyebrow { color: var(--a); font-size: 14px; font-weight: 600; margin-bottom: 8px; }
header .lead { font-size: 18px; margin-top: 14px; max-width: 44em; color: var(--ink); }
.lead { color: var(--soft); max-width: 44em; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 24px; margin-top: 16px; color: var(--soft);
  font-size: 14px; }
.facts b { color: var(--ink); font-weight: 500; overflow-wrap: anywhere; }
section { margin-top: clamp(44px, 7vw, 72px); }
h2 + .lead { margin: 4px 0 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; }
.tile, figure { background: var(--surface); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: 16px; min-width: 0; font-size: 14px; line-height: 1.4; color: var(--soft);
  overflow-wrap: anywhere; }
.tile h3 { color: var(--ink); font-size: 14px; }
.figure { font-size: 30px; font-weight: 600; letter-spacing: -.02em; line-height: 1.3; color:
  var(--ink); }
.tile .note { color: var(--ink); margin-bottom: 6px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr));
  gap: 16px; }
figure { padding: 20px; min-width: 0; }
figure + figure, .pair + figure, .pair + details, figure + details { margin-top: 16px; }
.pair > figure { margin-top: 0; }
figcaption { color: var(--soft); font-size: 14px; margin-bottom: 16px; }
figcaption h3 { color: var(--ink); font-size: 16px; }
.plot { padding-left: 44px; padding-right: 14px; font-size: 12px; }
.plot > svg { display: block; width: 100%; height: 240px; overflow: visible; }
.plot svg svg { overflow: visible; }
.plot.square { max-width: 440px; margin: 0 auto; }
.plot.square > svg { height: auto; aspect-ratio: 1; }
.axis { color: var(--soft); margin: 0 0 26px -44px; }
.axis:empty { margin-bottom: 22px; }
.axis.x { margin: 24px 0 0; text-align: center; }
.tick { fill: var(--soft); font-size: 12px; }
.tick.strong { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--line); }
.zero { stroke: var(--soft); }
.phase { stroke: var(--soft); stroke-dasharray: 2 3; }
.diagonal { stroke: var(--soft); stroke-dasharray: 4 4; }
.threshold { stroke: var(--ink); stroke-width: 1.5; }
.band { fill: var(--band); }
.curve { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.curve.a { stroke: var(--a); stroke-width: 2.5; } .curve.b { stroke: var(--b); }
.dot { stroke: var(--surface); stroke-width: 1; }
.dot.a, .bar.a { fill: var(--a); } .dot.b, .bar.b { fill: var(--b); }
.bar.warm { fill: var(--warm); }
.range { stroke-width: 3; stroke-linecap: round; opacity: .45; }
.range.a { stroke: var(--a); } .range.b { stroke: var(--b); }
.rail { stroke: var(--track); stroke-width: 3; stroke-linecap: round; }
.track { display: block; width: 100%; height: 16px; overflow: visible; }
.key { display: inline-block; max-width: 100%; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; vertical-align: bottom; margin-right: 12px; }
.key::before { content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 3px;
  margin-right: 6px; }
.key.a::before { background: var(--a); } .key.b::before { background: var(--b); }
.key.warm::before { background: var(--warm); }
.key.band::before { background: var(--band); outline: 1px solid var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 500; }
thead th { color: var(--soft); font-size: 13px; }
.confusion { table-layout: fixed; border-collapse: separate; border-spacing: 6px; margin: -6px;
  width: calc(100% + 12px); }
.confusion th { overflow-wrap: anywhere; }
.confusion thead th { text-align: center; padding: 4px; }
.confusion th span, .kinds th span { display: block; color: var(--soft); font-size: 13px;
  font-weight: 400; }
.confusion thead td { width: 26%; }
.confusion tbody td { height: 176px; text-align: center; border-radius: 8px; border: 1px solid
  var(--line); }
.confusion b { display: block; font-size: 28px; line-height: 1.2; font-weight: 600; }
.confusion .right { background: rgba(var(--a-ground), calc(.05 + .17 * var(--share))); }
.confusion .wrong { background: rgba(var(--warm-ground), calc(.03 + .5 * var(--share))); }
.kinds td, .kinds th { padding: 8px 0 8px 16px; border-bottom: 1px solid var(--line); }
.kinds th:first-child { padding-left: 0; overflow-wrap: anywhere; }
.kinds td, .kinds thead th:not(:first-child) { text-align: right; white-space: nowrap; }
.kinds .wide { width: 42%; padding-left: 24px; padding-right: 6px; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 20px
  16px; font-size: 14px; }
.mistake { min-width: 0; }
.mistake img, .gone { display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: cover;
  border-radius: 10px;
  background: var(--track); margin-bottom: 8px; }
.mistake img.whole { object-fit: contain; }
.gone { display: grid; place-content: center; padding: 12px; text-align: center; color: var(--soft);
  font-size: 13px; line-height: 1.4; }
.few { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4;
  overflow: hidden; }
.reasons { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr));
  gap: 12px; }
.reasons h3 span { float: right; font-weight: 400; color: var(--soft); }
.reasons p { margin-top: 10px; color: var(--ink); overflow-wrap: anywhere; }
.name { color: var(--soft); font-size: 13px; line-height: 1.35; overflow-wrap: anywhere; }
.flag { background: var(--band); border-radius: 4px; padding: 0 6px; font-size: 12px; display:
  inline-block; }
details { border-top: 1px solid var(--line); }
section > details:last-child { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: 12px 0; font-weight: 500; }
summary:focus-visible { outline: 2px solid var(--a); outline-offset: 2px; }
.plain { margin: 0 0 16px; }
.plain th, .plain td { padding: 4px 12px 4px 0; vertical-align: top; text-align: left; }
.plain :nth-last-child(2):first-child { width: 26%; overflow-wrap: anywhere; }
.plain :nth-child(2):last-child { overflow-wrap: anywhere; }
.wrap th { overflow-wrap: anywhere; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
@media (max-width: 560px) {
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile { padding: 14px; }
  .figure { font-size: 26px; }
  figure { padding: 16px; }
  .plot > svg { height: 200px; }
  .confusion tbody td { height: 96px; }
  .mistakes { grid-template-columns: 1fr 1fr; }
  .plain :nth-last-child(2):first-child { width: 40%; }
  .kinds td, .kinds th { padding-left: 10px; }
  .kinds .wide { width: 26%; padding-left: 14px; }
}
@media print {
  figure, .tile, .mistake, tr { break-inside: avoid; }
  h2, h2 + .lead { break-after: avoid; }
  body { padding: 0; max-width: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{header}
<main>
{sections}
</main>
</body>
</html>
"""


def page(title: str, header: str, sections: Iterable[str]) -> str:
    """Return a whole page of HTML parts, for `encoding="utf-8"`; empty sections are left out."""
    return PAGE.format(
        title=safe(title), style=STYLE, header=header, sections="\n".join(filter(None, sections))
    )


def section(key: str, title: str, lead: str, body: str) -> str:
    """Return a section; `lead` and `body` are HTML, `key` and `title` words of ours."""
    return (
        f'<section aria-labelledby="{key}"><h2 id="{key}">{title}</h2>'
        f'<p class="lead">{lead}</p>{body}</section>'
    )


def figure(title: str, caption: str, body: str) -> str:
    """Return a framed drawing; `caption` and `body` are HTML, `title` words of ours."""
    return f"<figure><figcaption><h3>{title}</h3><p>{caption}</p></figcaption>{body}</figure>"


def key(style: str, name: str) -> str:
    """Return the key of a colour in a drawing."""
    return f'<span class="key {style}">{safe(name)}</span>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a plain table, whose first column names the rows."""
    columns = "".join(f'<th scope="col">{safe(name)}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row">{safe(first)}</th>'
        f"{''.join(f'<td>{safe(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return (
        f'<table class="plain"><caption class="unseen">{safe(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table>"
    )
