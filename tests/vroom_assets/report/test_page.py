"""The page about a forecast."""

import re
from pathlib import Path

import pandas as pd

from tests.support.bundles import FORECAST, manifest, publish
from tests.support.markets import MARKETS, publish_markets
from vroom_api.contract import Scores, Spread
from vroom_api.contract.events import ContestResult, Decision
from vroom_api.contract.store import LocalStore
from vroom_assets.champion.contest import write_result
from vroom_assets.report.facts import Facts, facts_of
from vroom_assets.report.page import page_of
from vroom_assets.report.rendering import html, markdown

SECTIONS = [
    *("Data", "Target", "Champion", "Factors", "Error", "Intervals", "Where it fails", "Gates"),
    "What to try next",
]
SCORES = Scores(
    error="mae",
    select="poisson_deviance",
    nested={"mae": 3.5, "poisson_deviance": 2.0, "bias": 0.1},
    cv_mean={"mae": 3.4, "poisson_deviance": 1.9},
    cv_std={"mae": 0.2, "poisson_deviance": 0.1},
    folds=[3.2, 3.6],
    baselines={"mean": {"mae": 4.0, "poisson_deviance": 4.0}},
    coverage={"overall": 0.8, "lower_tercile": 0.9},
)
HOSTILE = "</td><script>alert(1)</script> | `x` **b**\n# c"


def page(name: str = FORECAST) -> str:
    return markdown(page_of(facts_of(name)))


def test_a_training_is_described_whole(trained: Path) -> None:
    text = page()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    assert "log_price_ratio = LN(actual_price / recommended_price)" in text
    assert "| falls" in text
    assert "always the mean" in text
    assert "| overall |" in text
    assert "Why this one: lean_forest has the lowest poisson_deviance; " in text
    assert "It is not provisional" in text or "It is provisional" in text
    assert "lean_forest" in text


def test_a_metric_that_chooses_and_is_reported_has_one_column(home: Path) -> None:
    figures = {"mae": 3.5, "bias": 0.1}
    scores = Scores(
        error="mae",
        select="mae",
        nested=figures,
        cv_mean=figures,
        cv_std=figures,
        folds=[3.5],
        baselines={"mean": {"mae": 4.0}},
    )
    publish(home, 1, kind="regression", scores=scores)
    found = facts_of(FORECAST)
    found.folds = pd.DataFrame(
        {"candidate": ["small", "other"], "repeat": 0, "fold": 0, "mae": [3.5, 3.6], "bias": 0.1}
    )
    text = markdown(page_of(found))
    assert "| candidate | mae |\n| --- | --- |\n| small | 3.5 |\n| other | 3.6 |" in text


def test_groups_terciles_and_sizes_say_where_it_fails(home: Path) -> None:
    declared = manifest(1)
    calibration = type(declared.calibration)(
        power=0.5,
        probabilities=[0.05, 0.5, 0.95],
        quantiles=[-1.0, 0.0, 1.0],
        integer=True,
        minimum=0.0,
        coverage={"overall": 0.8, "lower_tercile": 0.95, "upper_tercile": 0.7},
        spread=Spread(predictions=[1.0, 9.0], sizes=[0.5, 4.0]),
    )
    publish(home, 1, scores=SCORES, calibration=calibration)
    found = facts_of(FORECAST)
    found.errors_by = {"track": pd.DataFrame({"value": ["a", "b"], "rows": [10, 2000], "mae": [3.0, 9.5]})}
    text = markdown(page_of(found))
    assert "The mean error is 0.5 where 1 is predicted and 4 where it is 9." in text
    assert "Intervals hold least often in the upper tercile of the predictions: 70.0%." in text
    assert "| track | b | 2,000 | 9.5 |\n| track | a | 10 | 3 |" in text
    assert "| coverage | 0.88 to 0.94 | 0.800 |" in text
    assert "- coverage of the 90 % interval is 0.800, not within 0.88-0.94" in text


def test_a_probability_has_a_share_of_yes_and_how_often_it_came_true(home: Path) -> None:
    publish_markets(home, target_mean=0.3)
    text = page(MARKETS)
    assert "30.0% of the rows are a yes." in text
    assert "| 200 | 0.250 | 0.250 |\n| 100 | 0.700 | 0.700 |" in text


def test_a_provisional_champion_names_its_gates(home: Path) -> None:
    publish(home, 1, scores=SCORES)
    found = facts_of(FORECAST)
    assert found.pointer is not None
    found.pointer = type(found.pointer)(
        generation=1,
        version=1,
        manifest_sha256="",
        published_at="2025-03-02T00:00:00+00:00",
        provisional=("mean error is 9 %",),
    )
    text = markdown(page_of(found))
    assert "It is provisional" in text
    assert "- A gate is not passed: mean error is 9 %." in text


def test_what_was_retired_says_when_and_why(home: Path) -> None:
    publish(home, 1)
    LocalStore(home).retire(FORECAST, "asked for no longer")
    text = page()
    assert "It serves no more, since 20" in text
    assert ": asked for no longer" in text
    assert "## Factors" in text


def test_hostile_names_and_levels_stay_text_in_both_forms(home: Path) -> None:
    publish(home, 1, title=HOSTILE, entity=HOSTILE, unit=HOSTILE, snapshots={HOSTILE: "a" * 64})
    found = facts_of(FORECAST)
    found.errors_by = {HOSTILE: pd.DataFrame({"value": [HOSTILE], "rows": [50], "mae": [1.0]})}
    found.unread = [HOSTILE]
    as_html, as_markdown = html(page_of(found)), markdown(page_of(found))
    assert "<script" not in as_html
    assert r"\<script\>" in as_markdown
    assert not re.search(r"(?<!\\)<", as_markdown)
    assert "\n# c" not in as_markdown


def test_a_forecast_without_a_champion_says_so_and_what_to_do(home: Path) -> None:
    text = page()
    assert "reservations has no champion yet" in text
    assert "python -m vroom_assets check reservations --data" in text
    assert "VROOM_FORECAST=reservations python -m vroom_assets materialize" in text
    write_result(
        ContestResult(
            forecast=FORECAST,
            challenger=1,
            champion=None,
            generation=0,
            verdict=Decision.HOLD,
            reason="a gate is not passed",
            failed_gates=["mae over mean: not better"],
            comparison={},
            unseen={},
            data_version="d",
        )
    )
    assert "The verdict of the latest contest is hold: a gate is not passed." in page()
    assert "A gate is not passed: mae over mean: not better." in page()


def test_a_champion_that_cannot_be_read_is_said_to_be_so(home: Path) -> None:
    pointer = publish(home, 4)
    found = Facts(FORECAST, pointer=pointer, unread=["the champion: damaged"])
    text = markdown(page_of(found))
    assert "Version 4 of reservations cannot be read" in text
    assert "- the champion: damaged" in text


def test_a_bundle_of_before_figures_had_a_shape_has_a_page(home: Path) -> None:
    publish(home, 1)
    text = page()
    assert "## Factors" in text
    assert "The declaration or the figures cannot be read" in text
