"""A page as Markdown and as HTML, whatever its texts are."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_assets.report.rendering import Page, Section, escaped, html, markdown

HOSTILE = "<script>alert(1)</script> | `x` [a](javascript:alert(1)) ![b](c) **d** _e_ &lt;\n# f\u202e\x00"
PAGE = Page(
    HOSTILE,
    [HOSTILE],
    [Section(HOSTILE, [HOSTILE], ["name", HOSTILE], [[HOSTILE, "1.5"], ["c", "d"]], [HOSTILE, "1. one"])],
)


def test_a_page_is_plain_markdown():
    page = Page("T", ["p"], [Section("S", ["q"], ["a", "b"], [["log_price", "-1.5"], ["y", ""]], ["9.25"])])
    assert markdown(page) == (
        "# T\n\np\n\n## S\n\nq\n\n| a | b |\n| --- | --- |\n| log_price | -1.5 |\n| y |  |\n\n- 9.25\n"
    )


def test_a_section_without_rows_and_items_is_its_paragraphs():
    page = Page("T", [], [Section("S", ["q"], ["a"])])
    assert markdown(page) == "# T\n\n## S\n\nq\n"
    assert "<table>" not in html(page)


def test_hostile_texts_stay_texts_in_markdown():
    found = markdown(PAGE)
    assert not re.search(r"(?<!\\)[<>`*\[&]", found)
    assert "\u202e" not in found
    assert "\x00" not in found
    tables = [line for line in found.splitlines() if line.startswith("| ")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in tables] == [3, 3, 3, 3]
    assert "\n- 1\\. one\n" in found
    assert sum(line.startswith("#") for line in found.splitlines()) == 2  # title and section


def test_hostile_texts_stay_texts_in_html():
    found = html(PAGE)
    assert "<script" not in found
    assert found.count("&lt;script&gt;") == 8  # <title> and seven texts
    assert "\u202e" not in found
    assert "default-src 'none'" in found


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("log_price_ratio", "log_price_ratio"),
        ("_x_", r"\_x\_"),
        ("9.25", "9.25"),
        ("9. one", r"9\. one"),
        ("- a", r"\- a"),
        ("-0.5", "-0.5"),
        ("---", r"\---"),
        ("--- -", r"\--- -"),
        ("# a", r"\# a"),
        ("a#1", "a#1"),
        ("a #", r"a \#"),
        ("a\\", r"a\\"),
        ("a\u2028b", "a b"),
    ],
)
def test_only_what_would_mean_something_is_escaped(text, safe):
    assert escaped(text) == safe


@given(st.text())
def test_every_text_is_one_line_without_markup(text):
    found = escaped(text)
    assert len(found.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>`*\[|]", found)
