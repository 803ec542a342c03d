"""HTML of the pages: templates under dashboard/, everything that goes into them escaped."""

import html
from collections.abc import Sequence
from importlib.resources import files
from string import Template


def page(name: str, **parts: str) -> str:
    """Fill a template; the parts are HTML already. The style goes into the page: nothing else is loaded."""
    folder = files("vroom_api") / "dashboard"
    style = (folder / "style.css").read_text("utf-8")
    return Template((folder / name).read_text("utf-8")).substitute(parts, style=style)


class Markup(str):
    """HTML already, made here: not escaped again."""


def text(value: object) -> str:
    return value if isinstance(value, Markup) else html.escape(str(value))


def link(address: str, words: str) -> Markup:
    return Markup(f'<a href="{text(address)}">{text(words)}</a>')


def table(head: Sequence[str], rows: Sequence[Sequence[object]], empty: str = "") -> str:
    """A table of texts and links, or a sentence where there are none."""
    if not rows:
        return f"<p>{text(empty)}</p>"

    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'
