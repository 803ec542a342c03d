"""Templates and the views that they lay out."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from jinja2 import UndefinedError

from tests.support import project
from vroom_api.dashboard.pages import page
from vroom_api.dashboard.reference import OperationView, Part, Property, Reference, Section

HOSTILE = "<b onclick='x' title=\"y\">{{ 7 * 7 }}</b>&amp;"
ESCAPED = "&lt;b onclick=&#39;x&#39; title=&#34;y&#34;&gt;{{ 7 * 7 }}&lt;/b&gt;&amp;amp;"


def test_every_text_of_a_view_is_shown_as_it_is() -> None:
    one = Property(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    parts = [Part(HOSTILE, [one]), Part(HOSTILE, [], HOSTILE)]
    view = Reference(
        title=HOSTILE,
        description=HOSTILE,
        sections=[Section(HOSTILE, [OperationView(HOSTILE, HOSTILE, HOSTILE, HOSTILE, parts, HOSTILE)])],
        problem=[one],
    )
    displayed = page("reference.html", view)
    assert "<b " not in displayed
    assert (
        displayed.count(ESCAPED) == 24
    )  # 22, the heading of the section, and the summary among the contents


def test_a_view_that_lacks_what_its_template_shows_is_an_error() -> None:
    class Nothing(msgspec.Struct):
        title: str

    with pytest.raises(UndefinedError, match="description"):
        page("reference.html", Nothing("x"))


def test_the_templates_are_found_wherever_the_package_lies(tmp_path: Path) -> None:
    position = tmp_path / "groß & schön, 100 %"
    project.copy(position, "vroom_api")
    script = (
        "from vroom_api.dashboard import pages, reference\n"
        "print(pages.__file__, pages.page('reference.html', reference.Reference('t', 'd', [], [])))"
    )
    displayed = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(position)},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert displayed.startswith(str(position))
    assert "<title>t: API</title>" in displayed
