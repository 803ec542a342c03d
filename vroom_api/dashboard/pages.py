"""HTML of the pages: a template lays out what a view holds, and escapes all of it."""

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

_templates = Environment(
    loader=PackageLoader("vroom_api.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    auto_reload=False,  # compiled once
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, view: msgspec.Struct) -> str:
    """The page of a view, whose fields are the template's variables; it loads nothing but itself."""
    return _templates.get_template(template).render(msgspec.structs.asdict(view))
