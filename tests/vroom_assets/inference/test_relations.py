"""Columns that know the target are left out, those that only tell much of it stay with a question, and copies go."""

import math
import random
import re

import pytest

from tests.support.commands import command
from tests.support.inferred import inferred, table, unlike
from vroom_assets import declaration
from vroom_assets.inference import writing
from vroom_assets.spec import ColumnType

LEAVING = [n % 3 == 0 for n in range(600)]  # who left


@pytest.mark.parametrize(
    ("leak", "why"),
    [
        (
            [("moved", "price")[n % 2] if left else "" for n, left in enumerate(LEAVING)],
            "it alone explains 100.0%",
        ),
        ([n * 7 % 41 if left else "" for n, left in enumerate(LEAVING)], "it alone explains 100.0%"),
        (
            [round(one / 10 + 4.5 * left, 1) for one, left in zip(unlike(600, 3), LEAVING, strict=True)],
            "its order alone separates",
        ),
    ],
    ids=["a reason is given", "a number is given", "a score is higher"],
)
def test_what_only_those_have_who_left_is_a_leak(project, leak, why):
    text = table([int(left) for left in LEAVING], x=unlike(600, 2), leak=leak)
    (project / "f.csv").write_text(text)
    proposal = writing.infer(project / "defs", "mine", [project / "f.csv"], "y", None).proposal
    assert [one.column.name for one in proposal.inputs] == ["x"]
    (out,) = proposal.left_out
    assert out.why.startswith(f"no input: LEAK? {why}")
    assert "leak: {type" in (project / "defs" / "mine" / "defs.yaml").read_text()


def test_what_nearly_says_the_target_stays_an_input_with_a_question(project, capsys):
    left = [n % 2 == 0 for n in range(400)]
    score = [one + 26 * yes for one, yes in zip(unlike(400, 1), left, strict=True)]
    text = table([int(yes) for yes in left], x=unlike(400, 2), score=score)
    (project / "f.csv").write_text(text)
    assert command("new", "mine", "--from", str(project / "f.csv"), "--target", "y") == 0
    assert "doubt: score: its order alone separates yes and no of y to 9" in capsys.readouterr().out
    spec = declaration.read(project / "defs" / "mine")
    assert spec.inputs == ["x", "score"]
    declared = (project / "defs" / "mine" / "defs.yaml").read_text()
    assert "is it known before?" in next(line for line in declared.splitlines() if "score: {type" in line)


SHOPS, WEEKS = 40, 30


def panel() -> tuple[list[str], list[float], list[float]]:
    """Shops, their sizes, and their sales by the week: levels far apart, weeks much alike."""
    draw = random.Random(4)
    sizes = [round(math.exp(draw.gauss(9, 1.2)), 1) for _ in range(SHOPS)]
    rows = [(f"shop {number}", size) for number, size in enumerate(sizes) for _ in range(WEEKS)]
    sales = [round(3 * size * math.exp(draw.gauss(0, 0.08)), 2) for _, size in rows]
    return [shop for shop, _ in rows], [size for _, size in rows], sales


def test_the_level_of_a_shop_in_a_panel_stays_an_input_with_a_question(project):
    shops, sizes, sales = panel()
    text = table(sales, shop=shops, size=sizes, x=unlike(len(sales), 2))
    (project / "f.csv").write_text(text)
    proposal = writing.infer(project / "defs", "mine", [project / "f.csv"], "y", None).proposal
    doubts = {one.column.name: one.doubt for one in proposal.inputs}
    assert doubts.keys() in ({"shop", "x"}, {"shop", "size", "x"})  # the size repeats the shop
    assert re.fullmatch(r"it alone explains 99\.\d% of y: is it known before\?", doubts["shop"])

    text = table(sales, size=sizes, x=unlike(len(sales), 2))
    (project / "f.csv").write_text(text)
    proposal = writing.infer(project / "defs", "other", [project / "f.csv"], "y", None).proposal
    assert [bool(one.doubt) for one in proposal.inputs] == [True, False]


@pytest.mark.parametrize(
    "other",
    [
        lambda y, n: round(y, -3),
        lambda y, n: round(y * 0.92 / 500),
        lambda y, n: round(y * (1 + n % 7 / 500), 2),
        lambda y, n: f"{round(y, -3):.0f} EUR",
    ],
    ids=["rounded", "rounded in another unit", "with small noise", "as a text"],
)
def test_what_is_the_target_but_for_rounding_or_noise_is_a_leak_in_a_panel_too(project, other):
    shops, _, sales = panel()
    leak = [other(y, n) for n, y in enumerate(sales)]
    (project / "f.csv").write_text(table(sales, shop=shops, leak=leak, x=unlike(len(sales), 2)))
    proposal = writing.infer(project / "defs", "mine", [project / "f.csv"], "y", None).proposal
    assert [one.column.name for one in proposal.inputs] == ["shop", "x"]


def test_a_count_beside_the_target_that_nearly_repeats_it_is_a_leak(project):
    count = [n * 37 % 19 for n in range(900)]
    leak = [one + (n % 97 == 0) for n, one in enumerate(count)]
    (project / "f.csv").write_text(table(count, leak=leak, x=unlike(900, 2)))
    proposal = writing.infer(project / "defs", "mine", [project / "f.csv"], "y", None).proposal
    assert [one.column.name for one in proposal.inputs] == ["x"]


@pytest.mark.parametrize(
    ("combine", "words"),
    [
        (lambda a, b: a + b, "y is a + b"),
        (lambda a, b: b - a, "y is b - a"),
        (lambda a, b: round(a * b, 4), "y is a * b"),
        (lambda a, b: round(a / b, 6), "y is a / b"),
    ],
)
def test_columns_that_make_up_the_target_together_are_leaks(project, combine, words):
    a, b = unlike(120, 1), unlike(120, 2)
    text = table([combine(one, other) for one, other in zip(a, b, strict=True)], a=a, x=unlike(120, 3), b=b)
    (project / "f.csv").write_text(text)
    proposal = writing.infer(project / "defs", "mine", [project / "f.csv"], "y", None).proposal
    assert [one.column.name for one in proposal.inputs] == ["x"]
    assert all(words in one.why for one in proposal.left_out)


def test_a_row_of_totals_makes_no_leak_of_a_column_that_it_has_not(project):
    text = table(unlike(300, 1), x=unlike(300, 2), g=["abc"[n % 3] for n in range(300)]) + "Total;;15000\n"
    spec = inferred(project, text, "y")
    assert spec.inputs == ["x", "g"]
    assert spec.sources["rows"].columns["x"].type is ColumnType.NUMBER
    assert command("check", "mine", "--data") == 0  # the row of totals is set aside


def test_columns_that_repeat_others_are_left_out(project):
    x, place = unlike(120, 1), [n * 7 % 5 for n in range(120)]
    text = table(
        unlike(120, 2),
        celsius=x,
        place=[f"place {n}" for n in place],
        fahrenheit=[round(32 + 1.8 * one, 1) for one in x],
        place_index=[9 - n for n in place],
        area=[n % 3 for n in place],  # goes with the place, and not the other way round
    )
    (project / "f.csv").write_text(text)
    proposal = writing.infer(project / "defs", "mine", [project / "f.csv"], "y", None).proposal
    assert [one.column.name for one in proposal.inputs] == ["celsius", "place", "area"]
    assert {one.column.name: one.why for one in proposal.left_out} == {
        "fahrenheit": "no input: it repeats celsius",
        "place_index": "no input: it repeats place",
    }
