"""Of many rows a race decides on few, keeps groups and times together, and drops nobody who might win."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from vroom_assets.spec import Candidate, Family, Kind, Validation
from vroom_assets.training.folds import RowStructure
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.race import Problem, race
from vroom_assets.training.sampling import DECIDING_ROWS, FIRST_ROWS, FULL_ROWS
from vroom_assets.training.search import Search, search
from vroom_assets.training.tuning import tuning_rows

REGRESSION = METRIC_SETS[Kind.REGRESSION]
VALIDATION = Validation(folds=3, repeats=2, inner_folds=2, seed=1)


def line(*features: str) -> Candidate:
    return Candidate(family=Family.LINEAR, features=list(features))


def plain(rows: int, noise: float = 1.0) -> tuple[pd.DataFrame, np.ndarray]:
    """y = 2 x + z + noise."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"x": rng.normal(size=rows), "z": rng.normal(size=rows), "idle": rng.normal(size=rows)}
    )
    return frame, (2 * frame["x"] + frame["z"] + noise * rng.normal(size=rows)).to_numpy()


def raced(
    world: tuple[pd.DataFrame, np.ndarray],
    candidates: dict[str, Candidate],
    progress: Callable[[str], None] = lambda _: None,
    rows: RowStructure | None = None,
    **changes: object,
) -> Search:
    validation = VALIDATION.model_copy(update=changes)
    return search(*world, candidates, validation, REGRESSION, progress, rows)


def test_up_to_8_000_rows_nothing_is_raced():
    found = raced(plain(FULL_ROWS), {"both": line("x", "z")})
    assert found.standings.empty
    assert len(found.predicted) == FULL_ROWS
    assert set(found.out_of_fold["repeat"]) == {0, 1}


def test_few_of_many_rows_decide_what_is_clear():
    said: list[str] = []
    found = raced(
        plain(100_000), {"both": line("x", "z"), "one": line("x"), "none": line("idle")}, said.append
    )
    assert found.chosen == "both"
    assert found.choice.why.endswith(
        f"{DECIDING_ROWS:,} of 100,000 rows decided: nobody else can win any more"
    )
    dropped = found.standings.set_index(["candidate", "rows"])["dropped"]
    assert dropped["one", 10_000]
    assert dropped["none", 10_000]
    assert len(said) == 3
    assert "cannot win any more: one (" in said[1]
    assert "; then 40,000 rows, in about " in said[1]


def test_the_error_is_of_rows_that_neither_model_nor_choice_had_seen():
    frame, target = plain(100_000)
    found = raced((frame, target), {"both": line("x", "z"), "one": line("x")})
    assert len(found.predicted) == DECIDING_ROWS
    assert found.nested_choices == ["both"] * 2
    error = np.abs(target - found.nested)[found.predicted].mean()
    assert error == pytest.approx(np.sqrt(2 / np.pi), rel=0.02)
    assert (found.predictions("both") == found.nested[found.predicted]).all()
    assert set(found.fold_metrics["candidate"]) == {"both", "one", "mean", "median"}


def test_those_who_are_equal_end_the_race_as_such():
    found = raced(plain(100_000), {"one": line("x", "z"), "other": line("z", "x")})
    assert "40,000 of 100,000 rows decided: nobody is better by more than 0.1% of the mae" in found.choice.why
    assert not found.standings["dropped"].any()


def test_who_is_behind_on_few_rows_and_ahead_on_many_stays():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, 100_000)
    steps = rng.normal(size=2_000)
    target = 3 * x + 0.15 * steps[(x * 2_000).astype(int)] + 0.3 * rng.normal(size=100_000)
    many = Candidate(
        family=Family.BOOSTING,
        features=["x"],
        parameters={"max_iter": 20, "learning_rate": 0.3, "max_leaf_nodes": 2_000, "min_samples_leaf": 3},
    )
    found = raced((pd.DataFrame({"x": x}), target), {"line": line("x"), "steps": many})
    first = found.standings[found.standings["rows"] == FIRST_ROWS].set_index("candidate")
    assert (
        first.loc["steps", "behind"] > 3 * first.loc["steps", "noise"]
    )  # by which others would have dropped it
    assert found.chosen == "steps", found.standings


def test_who_explodes_is_dropped_and_ends_nothing():
    frame, target = plain(45_000)
    frame["huge"] = 1e200 * frame["z"]
    passed_on = Candidate(family=Family.FEATURE, features=["huge"])
    found = raced(
        (frame.assign(huge=np.where(frame["z"] > 3, np.inf, frame["z"])), target),
        {"both": line("x", "z"), "huge": passed_on},
    )
    assert found.chosen == "both"


def test_no_group_is_in_two_folds_of_a_sample():
    frame, target = plain(50_000)
    groups = np.random.default_rng(1).integers(0, 900, 50_000)
    found = raced(
        (frame, target), {"both": line("x", "z"), "one": line("x")}, rows=RowStructure(50_000, groups=groups)
    )
    first = found.out_of_fold.drop_duplicates("row")
    folds = pd.Series(first["fold"].to_numpy()).groupby(groups[first["row"]])
    assert (folds.min() == folds.max()).all()


def test_of_few_groups_no_sample_is_taken():
    frame, target = plain(45_000)
    groups = np.arange(45_000) // 2_000
    found = raced(
        (frame, target), {"both": line("x", "z"), "one": line("x")}, rows=RowStructure(45_000, groups=groups)
    )
    assert set(found.standings["rows"]) == {45_000}
    assert set(found.out_of_fold["fold"]) == set(range(VALIDATION.folds))
    assert found.chosen == "both"


def test_forward_in_time_nothing_is_predicted_by_later_rows():
    frame, target = plain(50_000)
    times = np.datetime64("2024-01-01") + np.random.default_rng(1).integers(0, 1_000, 50_000).astype(
        "timedelta64[h]"
    )
    rows = RowStructure(50_000, times=times, known=times + np.timedelta64(1, "h"))
    found = raced((frame, target), {"both": line("x", "z"), "one": line("x")}, rows=rows, blocks=3)
    assert found.chosen == "both"
    assert times[found.predicted].min() > times.min()
    assert 0 < len(found.predicted) < 50_000


def test_rows_on_which_values_were_tried_judge_nothing():
    tried = Candidate(family=Family.LINEAR, features=["x", "z"], parameters={"alpha": [0.1, 10_000.0]})
    world, structure = plain(100_000), RowStructure(100_000)
    found = raced(world, {"tried": tried})
    assert not np.isin(found.predicted, tuning_rows(structure, VALIDATION)).any()
    assert len(found.predicted) == DECIDING_ROWS - FULL_ROWS
    assert len(found.predictions("tried")) == len(found.predicted)
    error = np.abs(world[1] - found.nested)[found.predicted].mean()
    assert error == pytest.approx(np.sqrt(2 / np.pi), rel=0.02)


def test_a_budget_ends_the_race_with_what_is_known_by_then():
    found = raced(plain(100_000), {"both": line("x", "z"), "one": line("x")}, budget_seconds=1e-6)
    assert found.chosen == "both"
    assert (
        "2,500 of 100,000 rows decided: the next sample would take longer than the budget" in found.choice.why
    )


def test_members_and_what_is_kept_are_measured_to_the_end():
    candidates = {
        "both": line("x", "z"),
        "one": line("x"),
        "pair": Candidate(family=Family.AVERAGE, members=["both", "one"]),
        "idle": line("idle"),
    }
    found = search(*plain(100_000), candidates, VALIDATION, REGRESSION, kept=["idle"])
    assert found.chosen == "both"
    assert set(found.out_of_fold["candidate"]) == {"both", "idle", "mean", "median"}
    assert len(found.predictions("idle")) == len(found.predicted)


def test_equals_are_seldom_dropped():
    """Of two with one law and other chance neither can be dropped but by chance."""
    rng = np.random.default_rng(0)
    dropped = 0
    for trial in range(20):
        rows = 24_000
        frame = pd.DataFrame(rng.normal(size=(rows, 4)), columns=list("abcd"))
        target = rng.normal(size=rows)
        validation = VALIDATION.model_copy(update={"seed": trial})
        problem = Problem(frame, target, RowStructure(rows), validation, REGRESSION)
        found = race(problem, {"ab": line("a", "b"), "cd": line("c", "d")}, {}, lambda _: None)
        dropped += int(found.standings["dropped"].any())
    assert dropped <= 4  # 2 × the declared rate of two-sided drops, and chance


def test_more_rows_than_help_are_not_fitted():
    found = raced(plain(1_300_000), {"both": line("x", "z"), "one": line("x")})
    assert found.fitted is not None
    assert len(found.fitted) == 4 * DECIDING_ROWS  # three weights are known by then
    assert "it is fitted on 160,000 of them, as all others would help by less than 0.1%" in found.choice.why


def test_where_more_rows_help_all_are_fitted():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, 100_000)
    steps = rng.normal(size=2_000)
    target = steps[(x * 2_000).astype(int)] + 0.3 * rng.normal(size=100_000)
    parameters = {"max_iter": 20, "learning_rate": 0.3, "max_leaf_nodes": 2_000, "min_samples_leaf": 3}
    many = Candidate(family=Family.BOOSTING, features=["x"], parameters=parameters)
    found = raced((pd.DataFrame({"x": x}), target), {"steps": many, "mean": line("x")})
    assert found.chosen == "steps"
    assert found.fitted is None
