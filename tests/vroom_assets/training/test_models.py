"""The families of candidates: what they fit, what they refuse, and that they are repeatable."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import PoissonRegressor

from vroom_assets.spec import Candidate, Family
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.lightgbm_model import OBJECTIVES
from vroom_assets.training.models import CandidateError, powers_of

FEATURES = ["x", "flag", "steps"]
CANDIDATES = {
    "forest": Candidate(
        family=Family.FOREST, features=FEATURES, parameters={"n_estimators": 20, "min_samples_leaf": 10}
    ),
    "boosting": Candidate(
        family=Family.POISSON_BOOSTING, features=FEATURES, parameters={"max_iter": 30, "max_leaf_nodes": 8}
    ),
    "glm": Candidate(
        family=Family.POISSON_GLM,
        features=FEATURES,
        terms=["x", "x ^ 2", "flag", "steps", "x * steps"],
        parameters={"alpha": 0.001},
    ),
    "ebm": Candidate(
        family=Family.POISSON_EBM, features=FEATURES, parameters={"interactions": 1, "outer_bags": 2}
    ),
    "blend": Candidate(family=Family.AVERAGE, members=["forest", "glm"]),
    "mean": Candidate(family=Family.MEAN),
    "median": Candidate(family=Family.MEDIAN),
}
MODELS = [name for name in CANDIDATES if name not in ("mean", "median")]


def world(rows: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "x": rng.uniform(-1, 1, rows),
            "noise": rng.normal(size=rows),
            "flag": rng.integers(0, 2, rows).astype(float),
            "steps": rng.integers(1, 6, rows).astype(float),
        }
    )
    rate = np.exp(1.0 + frame["x"] * (0.2 + 0.2 * frame["steps"]) + 0.3 * frame["flag"])
    return frame, rng.poisson(rate).astype(float)


@pytest.fixture(scope="module")
def fitted():
    return fit_all(CANDIDATES, *world(500, 0), seed=3)


def error(model, frame: pd.DataFrame, target: np.ndarray) -> float:
    return float(np.abs(model.predict(frame) - target).mean())


def refusal(candidates: dict[str, Candidate]) -> str:
    with pytest.raises(CandidateError) as caught:
        fit_all(candidates, *world(60, 0), seed=0)
    return str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_every_family_finds_what_is_there(fitted, name):
    frame, target = world(500, 1)
    prediction = fitted[name].predict(frame)
    assert prediction.shape == (500,)
    assert prediction.dtype == np.float64
    assert (prediction > 0).all()
    assert error(fitted[name], frame, target) < 0.75 * error(fitted["mean"], frame, target)


def test_the_baselines_are_the_mean_and_the_median(fitted):
    frame, target = world(500, 0)
    assert set(fitted["mean"].predict(frame)) == {target.mean()}
    assert set(fitted["median"].predict(frame)) == {np.median(target)}


@pytest.mark.parametrize("name", MODELS)
def test_only_the_declared_features_count_in_any_order_of_columns(fitted, name):
    frame, _ = world(50, 2)
    shuffled = frame.assign(noise=0.0)[["steps", "noise", "x", "flag"]]
    assert fitted[name].features == FEATURES
    assert (fitted[name].predict(shuffled) == fitted[name].predict(frame)).all()
    assert (fitted[name].predict(frame.assign(x=-frame["x"])) != fitted[name].predict(frame)).any()


def test_the_same_seed_gives_the_same_model_also_beside_other_fits(fitted):
    frame, _ = world(50, 2)
    with ThreadPoolExecutor(3) as pool:
        again = list(pool.map(lambda _: fit_all(CANDIDATES, *world(500, 0), seed=3), range(3)))
    for other in again:
        for name in CANDIDATES:
            assert (other[name].predict(frame) == fitted[name].predict(frame)).all(), name


def test_another_seed_gives_another_forest(fitted):
    frame, _ = world(50, 2)
    other = fit_all({"forest": CANDIDATES["forest"]}, *world(500, 0), seed=4)["forest"]
    assert (other.predict(frame) != fitted["forest"].predict(frame)).any()


def test_an_average_uses_the_members_that_are_fitted_beside_it(fitted):
    frame, _ = world(50, 2)
    assert fitted["blend"].members[0] is fitted["forest"]
    assert fitted["blend"].members[1] is fitted["glm"]
    halves = (fitted["forest"].predict(frame) + fitted["glm"].predict(frame)) / 2
    assert np.allclose(fitted["blend"].predict(frame), halves, rtol=1e-15)


def test_a_glm_is_a_poisson_regression_on_its_standardized_terms(fitted):
    frame, target = world(500, 0)
    x, flag, steps = (frame[name].to_numpy() for name in FEATURES)
    terms = np.column_stack([x, x**2, flag, steps, x * steps])
    scaled = (terms - terms.mean(axis=0)) / terms.std(axis=0)
    reference = PoissonRegressor(alpha=0.001, solver="newton-cholesky", max_iter=1000).fit(scaled, target)
    assert np.allclose(fitted["glm"].predict(frame), reference.predict(scaled), rtol=1e-9)


def test_a_glm_without_terms_takes_its_features():
    frame, target = world(200, 0)
    plain = Candidate(family=Family.POISSON_GLM, features=["x", "flag"])
    spelled = plain.model_copy(update={"terms": ["x", "flag"]})
    models = fit_all({"plain": plain, "spelled": spelled}, frame, target, 0)
    assert (models["plain"].predict(frame) == models["spelled"].predict(frame)).all()


@given(
    name=st.sampled_from(MODELS),
    column=st.sampled_from(FEATURES),
    upwards=st.booleans(),
    distance=st.floats(1, 1e12),
)
@settings(max_examples=60)
def test_beyond_the_range_of_training_the_nearest_value_inside_counts(
    fitted, name, column, upwards, distance
):
    frame, _ = world(500, 0)
    edge = frame[column].max() if upwards else frame[column].min()
    far = edge + distance if upwards else edge - distance
    at_edge, beyond = (frame.head(5).assign(**{column: value}) for value in (edge, far))
    assert (fitted[name].predict(at_edge) == fitted[name].predict(beyond)).all()


@given(
    st.lists(
        st.dictionaries(st.sampled_from(FEATURES), st.integers(1, 4), min_size=1), min_size=1, max_size=4
    )
)
def test_terms_are_read_as_products_of_powers(terms):
    written = [" * ".join(f"{n} ^ {p}" if p > 1 else n for n, p in term.items()) for term in terms]
    powers = powers_of("glm", written, [], FEATURES)
    assert powers.tolist() == [[term.get(name, 0) for name in FEATURES] for term in terms]


def test_a_feature_named_twice_in_a_term_multiplies():
    assert powers_of("glm", ["x * x ^ 2*steps"], [], FEATURES).tolist() == [[3, 0, 1]]


@pytest.mark.parametrize(
    "term", ["y", "x + flag", "x ^ 0", "x ^ -1", "x ^ 10", "x ^ 1.5", "2 * x", "", "ln(x)"]
)
def test_a_term_that_is_no_product_of_features_is_refused(term):
    message = refusal({"curve": CANDIDATES["glm"].model_copy(update={"terms": [term]})})
    assert f"candidate curve: term {term!r}" in message
    assert "x, flag, steps" in message
    assert "`a ^ 2`" in message


@pytest.mark.parametrize(
    "family", [f for f in Family if f not in (Family.AVERAGE, Family.FEATURE, Family.MEAN, Family.MEDIAN)]
)
def test_a_parameter_that_does_not_exist_is_refused_with_those_that_do(family):
    message = refusal({"tuned": Candidate(family=family, features=["x"], parameters={"number_of_trees": 3})})
    known = {Family.FOREST: "min_samples_leaf", Family.POISSON_EBM: "min_samples_leaf"}.get(
        family, "num_leaves" if family in OBJECTIVES else "max_iter"
    )
    assert "candidate tuned: parameter 'number_of_trees' does not exist" in message
    assert known in message


@pytest.mark.parametrize(
    ("family", "parameter", "value"),
    [
        (Family.FOREST, "random_state", 1),
        (Family.FOREST, "n_jobs", 4),
        (Family.POISSON_BOOSTING, "loss", "squared_error"),
        (Family.POISSON_BOOSTING, "categorical_features", ["x"]),
        (Family.POISSON_EBM, "objective", "rmse"),
        (Family.POISSON_EBM, "feature_types", ["nominal"]),
    ],
)
def test_a_parameter_that_the_graph_or_repeatability_rests_on_is_refused(family, parameter, value):
    message = refusal({"tuned": Candidate(family=family, features=["x"], parameters={parameter: value})})
    assert f"candidate tuned: parameter {parameter!r} is set by its family" in message


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (
            Candidate(family=Family.FOREST, features=["x", "y"]),
            "y is not a feature; the features are x, noise",
        ),
        (Candidate(family=Family.POISSON_EBM), "it has no features; the features are x, noise"),
        (Candidate(family=Family.AVERAGE), "averages nothing"),
        (Candidate(family=Family.AVERAGE, members=["other"]), "averages other; `members` may hold"),
        (
            Candidate(family=Family.FOREST, features=["x"], parameters={"max_features": "many"}),
            "cannot be fitted on 60 rows: The 'max_features' parameter",
        ),
        (
            Candidate(family=Family.POISSON_GLM, features=["x"], parameters={"alpha": -1}),
            "cannot be fitted on 60 rows: The 'alpha' parameter",
        ),
    ],
)
def test_a_candidate_that_cannot_be_fitted_says_why(candidate, message):
    assert message in refusal({"odd": candidate})
    assert "candidate odd" in refusal({"odd": candidate})


def test_an_average_of_averages_is_refused():
    assert "are not averages themselves: forest" in refusal(
        {
            "forest": CANDIDATES["forest"],
            "inner": Candidate(family=Family.AVERAGE, members=["forest"]),
            "outer": Candidate(family=Family.AVERAGE, members=["inner"]),
        }
    )


@pytest.fixture(scope="module")
def fitted_on_a_constant():
    frame, target = world(100, 0)
    return fit_all(CANDIDATES, frame.assign(flag=1.0), target, 0)


@pytest.mark.parametrize("name", MODELS)
def test_a_feature_that_never_varies_does_no_harm(fitted_on_a_constant, name):
    frame, _ = world(100, 0)
    assert np.isfinite(fitted_on_a_constant[name].predict(frame)).all()


# Families of other kinds of targets


def test_an_offset_is_added_to_what_remains():
    frame, _ = world(500, 0)
    frame = frame.assign(before=np.linspace(60, 120, 500))
    target = (frame["before"] + 0.5 * frame["x"]).to_numpy()
    beside = Candidate(family=Family.LINEAR, features=["x"], offset="before", parameters={"alpha": 1e-6})
    models = fit_all(
        {"beside": beside, "last": Candidate(family=Family.MEDIAN, offset="before")}, frame, target, 0
    )
    assert models["beside"].features == ["x", "before"]
    assert np.abs(models["beside"].predict(frame) - target).max() < 1e-5
    shift = models["last"].predict(frame) - frame["before"]
    assert np.allclose(shift, np.median(0.5 * frame["x"]))
    with pytest.raises(CandidateError, match="offset other is not a feature; the features are x"):
        fit_all({"beside": beside.model_copy(update={"offset": "other"})}, frame, target, 0)


def test_a_feature_is_passed_on_as_it_is():
    frame, target = world(50, 0)
    [model] = fit_all({"x": Candidate(family=Family.FEATURE, features=["x"])}, frame, target, 0).values()
    assert (model.predict(frame) == frame["x"]).all()
    with pytest.raises(CandidateError, match="passes on one feature, not 2"):
        fit_all({"both": Candidate(family=Family.FEATURE, features=["x", "flag"])}, frame, target, 0)


def test_a_curve_of_probabilities_is_fitted_on_groups_that_its_model_has_not_seen():
    """Groups have an outcome each, and a model that knows them by a feature is sure of itself."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 5)
    target = np.repeat(rng.integers(0, 2, 200), 5).astype(float)
    frame = pd.DataFrame({"x": np.repeat(rng.uniform(size=200), 5)})  # tells the group, and nothing else
    forest = Candidate(
        family=Family.BINARY_BOOSTING,
        features=["x"],
        parameters={"min_samples_leaf": 1, "max_iter": 100},
        calibration="sigmoid",
    )
    apart = fit_all({"one": forest}, frame, target, 0, groups)["one"].predict(frame)
    together = fit_all({"one": forest}, frame, target, 0)["one"].predict(frame)
    assert np.abs(apart - 0.5).mean() < 0.15
    assert np.abs(together - 0.5).mean() > 0.4


def test_a_curve_through_bins_that_are_all_but_equal_gives_numbers():
    """The mean of 13 equal numbers may differ from that of 12 in the last digit, and then is another bin."""
    same = float.fromhex("0x1.91b41c6e3f13dp-2")
    assert np.full(13, same).mean() > np.full(12, same).mean()
    frame = pd.DataFrame({"x": np.concatenate([np.linspace(0.01, 0.3, 364), np.full(25, same)])})
    target = (np.arange(389) % 7 == 0).astype(float)
    price = Candidate(family=Family.FEATURE, features=["x"], calibration="isotonic")
    higher = pd.DataFrame({"x": np.linspace(0.0, 1.0, 11)})
    assert np.isfinite(fit_all({"one": price}, frame, target, 0)["one"].predict(higher)).all()


# Amounts


def amounts(rows: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Amounts whose errors grow with them: the mean lies 65 % above the median."""
    frame, _ = world(rows, seed)
    noise = np.random.default_rng(seed).normal(size=rows)
    return frame, np.exp(10 + frame["x"] + 0.3 * frame["steps"] + noise).to_numpy()


OF_AMOUNTS = {
    "gamma": Candidate(family=Family.GAMMA_GLM, features=FEATURES, parameters={"alpha": 0.001}),
    "tweedie": Candidate(family=Family.TWEEDIE_GLM, features=FEATURES),
    "linear": Candidate(family=Family.LINEAR, features=FEATURES, transform="log"),
    "forest": CANDIDATES["forest"].model_copy(update={"transform": "log"}),
    "boosting": CANDIDATES["boosting"].model_copy(update={"family": Family.BOOSTING, "transform": "log"}),
}


@pytest.mark.parametrize("name", OF_AMOUNTS)
def test_the_mean_of_amounts_is_not_biased(name):
    frame, target = amounts(4000, 1)
    model = fit_all({name: OF_AMOUNTS[name]}, frame, target, 0)[name]
    new, observed = amounts(40_000, 2)
    assert abs(model.predict(new).mean() / observed.mean() - 1) < 0.06
    assert model.predict(new).min() > 0


def test_a_unit_of_the_target_changes_nothing_but_the_unit():
    frame, target = amounts(500, 1)
    for one in ("gamma", "linear", "forest", "boosting"):
        candidate = OF_AMOUNTS[one]
        of_units = [
            fit_all({one: candidate}, frame, target * unit, 0)[one].predict(frame) for unit in (1, 1e6)
        ]
        assert np.allclose(of_units[1], 1e6 * of_units[0], rtol=1e-3), one


def test_logarithms_are_of_rows_whose_group_the_model_has_not_seen():
    """A forest knows each group by heart: by its own rows nothing would be missing from e^logarithm."""
    frame, target = amounts(200, 3)
    frame, target = frame.loc[frame.index.repeat(5)].reset_index(drop=True), np.repeat(target, 5)
    candidate = {"forest": OF_AMOUNTS["forest"].model_copy(update={"parameters": {"n_estimators": 20}})}
    apart = fit_all(candidate, frame, target, 0, np.repeat(np.arange(200), 5))["forest"]
    together = fit_all(candidate, frame, target, 0)["forest"]
    assert abs(apart.factor / together.factor - 1) > 0.1


@pytest.mark.parametrize(
    ("name", "least", "says"),
    [
        ("gamma", 0.0, "gamma_glm is for targets above 0, and one is 0"),
        ("tweedie", -1.0, "tweedie_glm of power 1.5 is for targets 0 or above, and one is -1"),
        ("linear", 0.0, "transform log is for targets above 0, and one is 0"),
    ],
)
def test_targets_that_have_no_logarithm_are_refused(name, least, says):
    frame, target = amounts(60, 0)
    with pytest.raises(CandidateError, match=f"candidate {name}: {says}; make such rows NULL in target.sql"):
        fit_all({name: OF_AMOUNTS[name]}, frame, np.append(target[1:], least), 0)


# Trends


def growing(rows: int, seed: int, until: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Counts that double from day 0 to day 100, up to some day."""
    frame, _ = world(rows, seed)
    rng = np.random.default_rng(seed + 100)  # of its own, or the days would be those numbers
    frame["day"] = rng.uniform(0, until, rows)
    return frame, rng.poisson(20 * np.exp(0.3 * frame["x"]) * (1 + frame["day"] / 100)).astype(float)


GROWING = {
    "boosting": CANDIDATES["boosting"].model_copy(update={"trend": "day"}),
    "linear": Candidate(family=Family.LINEAR, features=FEATURES, trend="day"),
    "mean": Candidate(family=Family.MEAN, trend="day"),
}


@pytest.mark.parametrize("name", GROWING)
def test_a_trend_goes_on_after_training_and_ends_where_nobody_knows(name):
    frame, target = growing(4000, 1, until=80)
    model = fit_all({name: GROWING[name]}, frame, target, 0)[name]
    plain = fit_all({name: GROWING[name].model_copy(update={"trend": None})}, frame, target, 0)[name]
    later, observed = growing(4000, 2, until=100)
    later, observed = later[later["day"] > 90], observed[later["day"] > 90]
    assert abs(model.predict(later).mean() / observed.mean() - 1) < 0.03
    assert plain.predict(later).mean() / observed.mean() < 0.8
    assert abs(model.predict(frame).mean() / target.mean() - 1) < 0.01
    end, far = (later.assign(day=day) for day in (frame["day"].max() * 1.25, 10_000.0))
    assert model.predict(far) == pytest.approx(model.predict(end), rel=1e-2)
    assert model.features[-1] == "day"


def test_a_falling_trend_never_turns_the_sign_and_a_time_that_stands_still_is_none():
    frame, _ = world(500, 3)
    frame["day"] = np.arange(500.0)
    target = np.maximum(100 - 0.25 * frame["day"].to_numpy(), 0)
    model = fit_all({"mean": GROWING["mean"]}, frame, target, 0)["mean"]
    assert model.predict(frame.assign(day=620.0)).min() > 0
    level = fit_all({"mean": GROWING["mean"]}, frame.assign(day=7.0), target, 0)["mean"]
    assert level.predict(frame.assign(day=9.0)) == pytest.approx(target.mean())


def test_targets_below_zero_have_no_trend():
    frame, target = growing(200, 4, until=100)
    with pytest.raises(CandidateError, match="a trend is for targets 0 or above, and one is -"):
        fit_all({"linear": GROWING["linear"]}, frame, target - target.max(), 0)


# Gaps


@pytest.mark.parametrize("name", [name for name, one in CANDIDATES.items() if not one.members])
def test_a_feature_that_is_missing_in_every_row_is_nothing(name):
    """As last year's value in the first year of a series."""
    frame, target = world(300, 5)
    candidate = CANDIDATES[name]
    candidate = candidate.model_copy(update={"features": [*candidate.features, "gone"]})
    candidate = candidate.on_features({}, frozenset({"gone"}))
    model = fit_all({name: candidate}, frame.assign(gone=np.nan), target, 0)[name]
    without = fit_all({name: CANDIDATES[name]}, frame, target, 0)[name]
    assert np.isfinite(model.predict(frame.assign(gone=np.nan))).all()
    assert (
        np.abs(model.predict(frame.assign(gone=np.nan)) - without.predict(frame)).mean() < 0.2 * target.mean()
    )
