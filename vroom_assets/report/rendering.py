"""A page of headings, paragraphs, lists and tables, as Markdown or as HTML.

Texts are plain and come from anywhere: names of columns, levels of categories, reasons. Both ways escape all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it, in this order; what is empty is left out."""

    heading: str
    paragraphs: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    items: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    title: str
    paragraphs: Sequence[str]
    sections: Sequence[Section]


# An underscore inside a word means itself, and so does a number sign.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])|(?<!\S)#")
# Of a line: an item of a list, a rule below or between paragraphs.
_AT_THE_START = re.compile(r"([+-]|\d{1,9}(?=[.)]))(?=[.)]?(?: |$))|[-=][-= ]*$")


def one_line(text: str) -> str:
    """A text without line breaks, and without what cannot be seen or turns the direction of what follows."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def escaped(text: str) -> str:
    """A text as it stands anywhere in Markdown."""
    safe = _SPECIAL.sub(lambda found: f"\\{found[0]}", one_line(text))
    if start := _AT_THE_START.match(safe):
        digits = start[0].isdigit()
        safe = f"{start[0]}\\{safe[start.end() :]}" if digits else f"\\{safe}"
    return safe


def markdown(page: Page) -> str:
    parts = [f"# {escaped(page.title)}", *map(escaped, page.paragraphs)]
    for section in page.sections:
        parts += [f"## {escaped(section.heading)}", *map(escaped, section.paragraphs)]
        if section.rows:
            table = [[escaped(cell) for cell in row] for row in (section.header, *section.rows)]
            lines = [table[0], ["---"] * len(section.header), *table[1:]]
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        if section.items:
            parts.append("\n".join(f"- {escaped(item)}" for item in section.items))
    return "\n\n".join(parts) + "\n"


def html(page: Page) -> str:
    """One file that loads nothing."""
    templates = Environment(
        loader=PackageLoader("vroom_assets.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html").render(page=page, one_line=one_line)
