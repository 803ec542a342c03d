"""LightGBM as one more boosting. Its library is an extra, which the training needs and the service does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vroom_assets.spec import Family
from vroom_assets.training.models import CandidateError

# Under the names of its scikit-learn class, and a few that it takes beside those.
PARAMETERS = [
    "objective",
    "n_estimators",
    "learning_rate",
    "num_leaves",
    "max_depth",
    "min_child_samples",
    "min_child_weight",
    "min_split_gain",
    "reg_alpha",
    "reg_lambda",
    "colsample_bytree",
    "subsample",
    "subsample_freq",
    "max_bin",
    "alpha",
    "tweedie_variance_power",
    "cat_smooth",
    "cat_l2",
    "max_cat_to_onehot",
    "min_data_per_group",
]
OBJECTIVES = {
    Family.LIGHTGBM: ("l2", "l1", "quantile", "gamma", "tweedie"),
    Family.POISSON_LIGHTGBM: ("poisson",),
    Family.BINARY_LIGHTGBM: ("binary",),
}
# The same numbers for the same rows and seed, on one thread; a zero is a number.
FIXED = {
    "boosting": "gbdt",
    "num_threads": 1,
    "verbose": -1,
    "deterministic": True,
    "force_row_wise": True,
    "zero_as_missing": False,
}
GIVEN = ("boosting_type", "n_jobs", "random_state", "seed", "categorical_feature", "monotone_constraints")


class LightGBM:
    """A boosting by LightGBM.

    family: of those in OBJECTIVES. categories: positions of the columns that are indices of levels. monotone: by column 1
    where the prediction may only rise, -1 where it may only fall.
    """

    def __init__(
        self,
        name: str,
        family: Family,
        parameters: dict[str, Any],
        seed: int,
        categories: Sequence[int] = (),
        monotone: Sequence[int] | None = None,
    ):
        self.name = name
        for parameter in parameters:
            if parameter not in PARAMETERS:
                why = "is set by its family" if parameter in (*FIXED, *GIVEN) else "does not exist"
                raise CandidateError(
                    f"candidate {name}: parameter {parameter!r} {why}; LightGBM takes {', '.join(PARAMETERS)} here"
                )
        given: dict[str, Any] = {"objective": OBJECTIVES[family][0], "n_estimators": 100} | parameters
        if given["objective"] not in OBJECTIVES[family]:
            listed = ", ".join(OBJECTIVES[family])
            raise CandidateError(
                f"candidate {name}: objective {given['objective']!r} is not for {family}; use one of {listed}"
            )
        self.rounds = given.pop("n_estimators")
        self.parameters = given | FIXED | {"seed": seed}
        self.categories = list(categories)
        if monotone is not None:
            self.parameters["monotone_constraints"] = list(monotone)

    def fit(self, matrix: np.ndarray, target: np.ndarray) -> LightGBM:
        """Fit on columns of shape (rows, columns).

        Raises:
            CandidateError: the extra is not installed, or LightGBM does not take a parameter or the targets.
        """
        try:
            import lightgbm
        except ImportError as error:
            raise CandidateError(
                f"candidate {self.name}: its family needs LightGBM, which is not installed; run pip install "
                "'vroom[lightgbm]', or choose another family"
            ) from error
        data = lightgbm.Dataset(
            matrix, target, categorical_feature=self.categories, params={"verbose": -1}, free_raw_data=True
        )
        try:
            self.booster = lightgbm.train(self.parameters, data, num_boost_round=self.rounds)
        except (lightgbm.basic.LightGBMError, TypeError, ValueError) as error:
            raise CandidateError(f"candidate {self.name}: LightGBM says: {error}") from error
        return self

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Predictions on the scale of the target, (rows,); of a yes or no the probability."""
        return np.asarray(self.booster.predict(matrix, num_threads=1), dtype=np.float64)

    def check(self, columns: int) -> None:
        """Let LightGBM take the parameters, on rows that mean nothing.

        Raises:
            CandidateError: as `fit`.
        """
        rows = np.arange(40.0)
        rounds, self.rounds = (
            self.rounds,
            min(self.rounds, 1) if isinstance(self.rounds, int) else self.rounds,
        )
        try:
            self.fit(
                np.repeat(rows[:, None], max(columns, 1), axis=1),
                rows % 2 + (self.parameters["objective"] == "gamma"),
            )
        finally:
            self.rounds = rounds


@dataclass(frozen=True)
class Tree:
    """One tree as LightGBM writes it down: inner nodes first, leaves behind them.

    feature, threshold, left, right: of inner nodes, shape (leaves - 1,); children are numbers of nodes. missing_left:
    where a missing value goes. levels: of a node that splits a category, the levels that go left, else None.
    value: of leaves, shape (leaves,).
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    levels: list[np.ndarray | None]
    value: np.ndarray


CATEGORICAL, DEFAULT_LEFT, MISSING_IS_NAN = 1, 2, 2 << 2  # bits of `decision_type`
ZERO = float(np.float32(1e-35))  # LightGBM takes for 0 what is not farther from it


def trees_of(model: LightGBM) -> list[Tree]:
    """The trees of a fitted model, from its text, which LightGBM itself reads models from."""
    text = model.booster.model_to_string().partition("\nTree=")[2].partition("\nend of trees")[0]
    return [
        _tree(dict(line.partition("=")[::2] for line in part.splitlines())) for part in text.split("\nTree=")
    ]


def _tree(fields: dict[str, str]) -> Tree:
    def numbers(name: str, kind: type = int) -> np.ndarray:
        return np.array(fields.get(name, "").split(), dtype=kind)

    value = numbers("leaf_value", float)
    inner = len(value) - 1
    decisions, threshold = numbers("decision_type")[:inner], numbers("threshold", float)[:inner]
    cut = np.where((threshold >= -ZERO) & (threshold < 0), np.nextafter(-ZERO, -np.inf), threshold)
    cut = np.where((threshold >= 0) & (threshold <= ZERO), ZERO, cut)
    children = [numbers(name)[:inner] for name in ("left_child", "right_child")]
    left, right = (np.where(child < 0, inner + ~child, child) for child in children)
    is_level = (decisions & CATEGORICAL).astype(bool)
    # Where training had no missing value, LightGBM takes one for 0.
    learnt = (decisions & 12) == MISSING_IS_NAN
    missing_left = np.where(learnt, (decisions & DEFAULT_LEFT).astype(bool), threshold >= 0.0) & ~is_level
    bounds, words = numbers("cat_boundaries"), numbers("cat_threshold", np.uint32)
    levels: list[np.ndarray | None] = []
    for number in range(inner):
        if not is_level[number]:
            levels.append(None)
            continue
        begin, end = bounds[int(threshold[number]) : int(threshold[number]) + 2]
        bits = np.unpackbits(words[begin:end].view(np.uint8), bitorder="little")
        levels.append(np.flatnonzero(bits))
    return Tree(numbers("split_feature")[:inner], cut, left, right, missing_left, levels, value)
