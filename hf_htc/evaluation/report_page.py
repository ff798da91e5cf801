"""The HTML of a report: one file, no script, nothing from the network."""

import re

from jinja2 import Environment
from markupsafe import Markup, escape


# Drawings wider than this, in points, are not made as narrow as a phone; they scroll.
_LARGE = 560
# Characters of the longest cells of a row, from which a phone shows a row's cells one below the other.
_WIDE = 140

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ report.title }}</title>
<style>
:root { --ink: #1d2530; --soft: #5b6675; --line: #dde2e8; --accent: #3b6ea8; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
.page { display: grid; grid-template-columns: 15rem minmax(0, 1fr); max-width: 82rem; margin: 0 auto; }
nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow: auto; padding: 2rem 1rem; font-size: 0.87rem; }
nav a { display: block; padding: 0.2rem 0; color: var(--soft); text-decoration: none; }
nav a:hover { color: var(--accent); }
main { padding: 2rem; min-width: 0; }
h1 { margin: 0 0 0.3rem; font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 2.4rem 0 0.6rem; font-size: 1.15rem; }
.lead { margin: 0; color: var(--soft); }
.wide { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.9rem 0.3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
td { overflow-wrap: break-word; min-width: 6rem; }
td.long { overflow-wrap: anywhere; min-width: 11rem; }
.stacked { width: 100%; }
.stacked td.long:last-child { width: 48%; }
td.number, th.number { text-align: right; white-space: nowrap; min-width: 0; }
figure { display: inline-block; margin: 0.6rem 1.2rem 0.6rem 0; max-width: 100%; overflow-x: auto; vertical-align: top; }
figure svg { display: block; max-width: 100%; height: auto; }
figure.large svg { max-width: max(100%, 44rem); }
figcaption { max-width: 48rem; color: var(--soft); font-size: 0.85rem; }
code { background: #f2f4f7; padding: 0.05rem 0.3rem; border-radius: 3px; font-size: 0.9em; }
@media (max-width: 50rem) {
  .page { grid-template-columns: 1fr; }
  nav { position: static; padding: 1rem 1rem 0; }
  nav a { display: inline-block; margin-right: 1rem; }
  main { padding: 1rem; }
  table { font-size: 0.82rem; }
  th, td { padding-right: 0.6rem; }
  th.number { white-space: normal; }
  td, td.long { min-width: 5rem; }
  .stacked thead { display: none; }
  .stacked tr, .stacked td, .stacked td.long:last-child { display: block; width: auto; text-align: left; }
  .stacked tr { padding: 0.5rem 0; border-bottom: 1px solid var(--line); }
  .stacked td { padding: 0; border: 0; }
  .stacked td::before { content: attr(data-head) ": "; color: var(--soft); }
}
@media print { nav { display: none; } .page { display: block; } }
</style>
</head>
<body>
<div class="page">
<nav>
{% for section in report.sections %}<a href="#s{{ loop.index }}">{{ section.title }}</a>
{% endfor %}</nav>
<main>
<h1>{{ report.title }}</h1>
<p class="lead">{{ report.lead | code }}</p>
{% for section in report.sections %}
<section id="s{{ loop.index }}">
<h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text | code }}</p>{% endif %}
{% for head, rows in section.tables %}
{% set is_stacked = rows | wide %}
<div class="wide"><table{% if is_stacked %} class="stacked"{% endif %}>
{% set numeric = rows | numbers %}<thead><tr>
{% for cell in head %}<th{% if loop.index0 in numeric %} class="number"{% endif %}>{{ cell }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}<tr>
{% for cell in row %}{% set place = loop.index0 %}
<td{{ cell | kind(place in numeric, head[place] if is_stacked else "") }}>{{ cell | breaks }}</td>{% endfor %}
</tr>
{% endfor %}</tbody>
</table></div>
{% endfor %}
{% for svg, caption in section.figures %}
<figure{{ svg | size }}>{{ svg | drawing(caption or section.title) }}
{% if caption %}<figcaption>{{ caption }}</figcaption>{% endif %}</figure>
{% endfor %}
</section>
{% endfor %}
</main>
</div>
</body>
</html>
"""


def render(report):
    """
    The page of a [`Report`]: `str`. Whatever comes from data is escaped; the drawings are our own, and their ids are made unique.
    """
    environment = Environment(autoescape=True, trim_blocks=False)
    number = iter(range(10**6))
    environment.filters.update(
        code=_code,
        numbers=_numbers,
        kind=_kind,
        wide=lambda rows: sum(max(len(str(cell)) for cell in column) for column in zip(*rows)) > _WIDE,
        breaks=lambda cell: Markup("/<wbr>").join(escape(part) for part in str(cell).split("/")),
        size=lambda svg: Markup(' class="large"') if _width(svg) > _LARGE else "",
        drawing=lambda svg, alternative: Markup(_unique(svg, next(number), alternative)),
    )
    return environment.from_string(_PAGE).render(report=report)


def _code(text):
    """Escaped text in which what stands between backticks is code."""
    parts = str(text).split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def _numbers(rows):
    """The columns that hold numbers only, so that they are set to the right."""
    columns = list(zip(*rows)) if rows else []
    return {place for place, column in enumerate(columns) if column and all(_is_number(cell) for cell in column)}


def _is_number(cell):
    text = str(cell).replace(",", "").removesuffix("%")
    try:
        float(text)
    except ValueError:
        return text in ("", "-")
    return True


def _kind(cell, is_number, head=""):
    """The class of a cell, as long texts need room and long words are broken, and its column's head where a phone shows both."""
    kind = (
        "number" if is_number else "long" if _is_long(cell) or any(len(word) > 20 for word in re.split("[ /]", str(cell))) else ""
    )
    attributes = (("class", kind), ("data-head", head))
    return Markup("").join(Markup(' {}="{}"').format(key, value) for key, value in attributes if value)


def _is_long(cell):
    return len(str(cell)) > 40


def _width(svg):
    """Of a drawing, in points."""
    found = re.search(r'viewBox="\S+ \S+ (\S+) ', svg)
    return float(found[1]) if found else 0.0


def _unique(svg, number, alternative):
    """The drawing with an alternative text, and a number in its ids and the references to them: several stand in one page."""
    for before, after in (('id="', f'id="f{number}-'), ('href="#', f'href="#f{number}-'), ("url(#", f"url(#f{number}-")):
        svg = svg.replace(before, after)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alternative)}" ', 1)
