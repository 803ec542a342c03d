"""The contest's decisions, on sixty made rows and made manifests: nothing is trained for them but two lines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pandas as pd
import pytest

from tests.support.tiny import feature_field, input_field, manifest_of, model_of
from tests.support.vans import bookings
from vroom_api.contract import Bundle, Golden, Kind, Manifest, Recipe, Scores
from vroom_api.contract.events import ContestResult, Decision
from vroom_assets.challenger.manifest import recipe_of
from vroom_assets.champion import contest
from vroom_assets.champion.contest import NoContest, as_it_serves, candidates_of, run_contest
from vroom_assets.features.table import Dataset, parquet_path
from vroom_assets.spec import Candidate, Family, ForecastSpec, Gates
from vroom_assets.training.folds import RowStructure
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.models import Constant

ROWS = 60
COLOURS = ["red", "blue"]
SPEC = bookings(
    {"seats": {"type": "number"}, "colour": {"type": "text", "values": COLOURS}},
    target={
        "name": "bookings",
        "kind": Kind.REGRESSION,
        "unit": "bookings",
        "horizon": "a year",
        "as_of": "vans.listed_at",
    },
    validation={"folds": 3, "repeats": 1, "inner_folds": 2},
    features_sql="select seats from inputs",
)
METRICS = METRIC_SETS[Kind.REGRESSION]
LINE, MEAN = Candidate(family=Family.LINEAR, features=["seats"]), Candidate(family=Family.MEAN)
SCORES = Scores(
    error="mae", select="mae", nested={"mae": 0.5, "bias": 0.0}, cv_mean={}, cv_std={}, folds=[], baselines={}
)
BIASED = msgspec.structs.replace(SCORES, nested={"mae": 0.5, "bias": 4.0})


def dataset(**parts: Any) -> Dataset:
    """Vans whose bookings are three times their seats, but for a little noise."""
    draw = np.random.default_rng(5)
    seats = draw.uniform(1, 9, ROWS)
    plain: dict[str, Any] = {
        "forecast": "bookings",
        "keys": np.arange(ROWS),
        "inputs": pd.DataFrame({"seats": seats, "colour": draw.integers(0, 2, ROWS).astype(float)}),
        "features": pd.DataFrame({"seats": seats}),
        "target": 3 * seats + draw.normal(0, 0.5, ROWS),
        "row_structure": RowStructure(ROWS),
        "data_version": "now",
        "data_as_of": "2025-03-01T12:00:00",
        "snapshots": {},
    }
    return Dataset(**plain | parts)


def version(number: int, recipe: Candidate = LINE, **given: Any) -> Manifest:
    """A version that was trained on the current data by the current code."""
    name = recipe.family.value
    plain: dict[str, Any] = {
        "version": number,
        "kind": Kind.REGRESSION,
        "mlflow_run_id": f"run {number}",
        "recipe": Recipe(name, name, recipe.features, {name: recipe.model_dump(mode="json")}),
        "scores": SCORES,
        "target_mean": 15.0,
        "data_version": "now",
        "code_version": "now",
    }
    fields = [input_field("seats", 1, 9), input_field("colour", 0, 1, type="text", values=COLOURS)]
    fields = given.pop("inputs", fields)
    return manifest_of(fields, [feature_field("seats", "seats", ["seats"])], **plain | given)


def test_a_recipe_is_fitted_again_with_the_values_that_were_chosen_for_it():
    several = Candidate(family=Family.LINEAR, features=["seats"], parameters={"alpha": [1.0, 9.0]})
    recipe = recipe_of("line", {"line": several.with_values({"alpha": 9.0})}, Constant(1.0, ["seats"]))
    assert candidates_of(recipe)["line"].values == {"alpha": 9.0}
    assert candidates_of(recipe)["line"].model_dump() == several.model_dump()


def bundle(manifest: Manifest) -> Bundle:
    """A bundle whose model says twice the seats."""
    model = model_of(["seats", "colour"], [("twice", "Mul", "seats", 2.0)], ["seats"])
    return Bundle(manifest=manifest, model=model, golden=Golden([], [], [], 1e-9))


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as one:
        yield one


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))


@pytest.fixture
def held(connection: duckdb.DuckDBPyConnection):
    """Hold a contest: what is not said is a sound challenger on the current data and no roll-back."""

    def hold(
        challenger: Manifest,
        champion: Manifest | None,
        *suspended: Manifest,
        data: Dataset | None = None,
        generation: int = 4,
        spec: ForecastSpec = SPEC,
    ) -> ContestResult:
        serving = None if champion is None else bundle(champion)
        return run_contest(
            connection, spec, data or dataset(), METRICS, challenger, serving, generation, suspended
        )

    return hold


def test_without_a_champion_the_challenger_is_promoted_uncompared(held):
    found = held(version(1), None)
    assert (found.verdict, found.champion, found.comparison) == (Decision.PROMOTE, None, {})
    assert "no champion yet" in found.reason


def test_what_serves_already_is_held(held):
    found = held(version(1), version(1))
    assert (found.verdict, found.reason, found.comparison) == (Decision.HOLD, "it serves already", {})


def test_a_better_recipe_is_promoted_with_its_figures(held):
    found = held(version(2, LINE), version(1, MEAN))
    assert found.verdict is Decision.PROMOTE
    assert found.comparison["rows"] == ROWS
    assert found.comparison["challenger_error"] < 0.3 * found.comparison["champion_error"]
    assert (found.forecast, found.challenger, found.champion, found.generation, found.data_version) == (
        *("bookings", 2, 1, 4, "now"),
    )


def test_a_worse_recipe_is_held(held):
    found = held(version(2, MEAN), version(1, LINE))
    assert found.verdict is Decision.HOLD
    assert found.reason.startswith("not proved better")


@pytest.mark.parametrize(
    ("before", "verdict", "reason"),
    [
        ({"data_version": "before"}, Decision.REFRESH, "the champion's own recipe, trained on newer data"),
        ({"code_version": "before"}, Decision.REFRESH, "under a changed declaration"),
        ({}, Decision.HOLD, "the same recipe on the same data: nothing new"),
    ],
)
def test_the_same_recipe_refreshes_what_is_older_and_nothing_else(held, before, verdict, reason):
    found = held(version(2), version(1, **before))
    assert found.verdict is verdict
    assert reason in found.reason
    assert found.comparison["gain"] == 0


GONE = [
    pytest.param([input_field("seats", 1, 9), input_field("doors", 2, 5)], id="an input is gone"),
    pytest.param(
        [input_field("seats", 1, 9), input_field("colour", 0, 2, type="text", values=[*COLOURS, "green"])],
        id="a text is gone",
    ),
]


@pytest.mark.parametrize("inputs", GONE)
def test_a_champion_whose_inputs_are_gone_is_replaced(held, inputs):
    found = held(version(2, MEAN), version(1, inputs=inputs))
    assert (found.verdict, found.comparison, found.unseen) == (Decision.PROMOTE, {}, {})
    assert "no longer have the inputs that the champion needs" in found.reason


@pytest.mark.parametrize("inputs", GONE)
def test_a_challenger_whose_inputs_are_gone_is_held(held, inputs):
    found = held(version(2, inputs=inputs), version(1, MEAN))
    assert (found.verdict, found.comparison) == (Decision.HOLD, {})
    assert "no longer have the inputs that it needs: train again" in found.reason


def test_what_was_rolled_back_does_not_return_by_itself(held):
    found = held(
        version(3, LINE), version(1, MEAN), version(2, MEAN), version(3, LINE, data_version="before")
    )
    assert (found.verdict, found.reason) == (Decision.HOLD, "it equals version 3, which was rolled back")


def test_nor_does_its_equal_under_another_number(held):
    found = held(version(3, LINE), version(1, MEAN), version(2, LINE))
    assert (found.verdict, found.reason) == (Decision.HOLD, "it equals version 2, which was rolled back")


@pytest.mark.parametrize("suspended", [version(2, MEAN), version(2, LINE, data_version="before")])
def test_another_recipe_or_other_data_are_not_what_was_rolled_back(held, suspended):
    assert held(version(3, LINE), version(1, MEAN), suspended).verdict is Decision.PROMOTE


def test_a_challenger_of_other_data_is_held_however_good_it_is(held):
    found = held(version(2, LINE, data_version="before"), version(1, MEAN))
    assert (found.verdict, found.comparison) == (Decision.HOLD, {})  # what is held anyway is not fitted
    assert "the features changed since it was trained" in found.reason


@pytest.mark.parametrize("champion", [None, version(1, MEAN)], ids=["no champion", "a worse champion"])
def test_no_verdict_overrides_a_gate(held, champion):
    found = held(version(2, LINE, scores=BIASED), champion)
    assert found.verdict is Decision.HOLD
    assert found.reason.startswith("a gate is not passed: mean error is 26.7% of the mean target")
    assert len(found.failed_gates) == 1


def test_the_first_champion_may_miss_a_gate_where_it_is_better_than_the_baselines(held):
    found = held(version(1, LINE, scores=BIASED), None, generation=0)
    assert (found.verdict, found.provisional, len(found.failed_gates)) == (Decision.PROMOTE, True, 1)
    assert "serves as provisional, because a gate is not passed: mean error is 26.7%" in found.reason
    passed = held(version(1, LINE), None, generation=0)
    assert (passed.verdict, passed.provisional) == (Decision.PROMOTE, False)


USELESS = msgspec.structs.replace(BIASED, baselines={"mean": {"mae": 0.4}})
ALL = SPEC.model_copy(update={"gates": Gates(require="all")})


@pytest.mark.parametrize(
    ("scores", "spec"),
    [(USELESS, SPEC), (None, SPEC), (BIASED, ALL)],
    ids=["no better than a baseline", "without scores", "all gates are required"],
)
def test_the_first_champion_is_held_where(held, scores, spec):
    found = held(version(1, LINE, scores=scores), None, generation=0, spec=spec)
    assert (found.verdict, found.provisional) == (Decision.HOLD, False)
    assert found.reason.startswith("a gate is not passed: ")


def test_what_other_reasons_hold_is_not_provisional(held):
    found = held(version(1, LINE, scores=BIASED, data_version="before"), None, generation=0)
    assert (found.verdict, found.provisional) == (Decision.HOLD, False)
    assert "the features changed since it was trained" in found.reason


def test_of_several_reasons_to_hold_the_one_that_lasts_is_given(held):
    """A gate over older data, and older data over a roll-back: training again is no help against a gate."""
    again = version(2, LINE, data_version="before")
    assert "train again" in held(again, version(1, MEAN), again).reason
    failing = version(2, LINE, data_version="before", scores=BIASED)
    assert "a gate is not passed" in held(failing, version(1, MEAN), failing).reason


def seen(connection: duckdb.DuckDBPyConnection, count: int, data_version: str = "before") -> None:
    """Keep the keys of a training on the first rows."""
    path = parquet_path("bookings", data_version)
    path.parent.mkdir(parents=True)
    connection.execute(f"copy (select range as entity_key from range({count})) to '{path}' (format parquet)")


def test_the_champion_is_scored_as_it_serves_on_rows_that_it_has_not_seen(held, connection):
    seen(connection, 50)
    data = dataset()
    found = held(version(2), version(1, data_version="before"), data=data)
    assert found.unseen["rows"] == 10
    seats = data.inputs["seats"].to_numpy()[50:]
    assert found.unseen["mae"] == pytest.approx(np.abs(data.target[50:] - 2 * seats).mean())
    assert set(found.unseen) == {"rows", "mean_target", "mean_prediction", *METRICS.metrics}
    assert set(found.serving) == set(found.unseen)
    assert found.serving["rows"] == ROWS


def test_there_are_no_figures_of_unseen_rows_where_all_were_seen(held, connection):
    seen(connection, ROWS)
    assert held(version(2), version(1, data_version="before")).unseen == {}


def test_nor_where_it_is_not_known_any_more_which_were(held):
    found = held(version(2), version(1, data_version="before"))
    assert found.comparison
    assert found.unseen == {}


def test_nor_where_texts_have_other_positions_than_in_the_current_data(connection):
    seen(connection, 50)
    turned = [
        input_field("seats", 1, 9),
        input_field("colour", 0, 1, type="text", values=list(reversed(COLOURS))),
    ]
    for inputs, figures in ((turned, 0), (None, 1)):
        given = {"inputs": inputs} if inputs else {}
        champion = bundle(version(1, data_version="before", **given))
        _, found = as_it_serves(connection, SPEC, champion, dataset(), METRICS)
        assert bool(found) is bool(figures)


def test_a_result_is_found_again_and_where_there_is_none_that_is_said(held):
    with pytest.raises(NoContest, match="no contest was held yet; materialize `contest` first"):
        contest.read_result("bookings")
    (contest.forecast_folder("bookings")).mkdir()
    found = held(version(1), None)
    contest.write_result(found)
    assert contest.read_result("bookings") == found
