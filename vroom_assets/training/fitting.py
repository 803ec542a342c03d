"""Fits candidates."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from vroom_assets.spec import Candidate, Curve, Family
from vroom_assets.training import coding, pace
from vroom_assets.training.families import estimator_of
from vroom_assets.training.models import (
    ISOTONIC_FLOOR,
    Average,
    Calibrated,
    CandidateError,
    Constant,
    Estimator,
    Fitted,
    FromLogarithm,
    Line,
    PassThrough,
    WithOffset,
    WithTrend,
    fitted_on_cores,
    log_odds,
)

CALIBRATION_FOLDS = 5
CALIBRATION_BINS = 30
CALIBRATION_DIGITS = 9
TREND_FOLDS = 2


@dataclass(frozen=True)
class _Rows:
    """What a candidate is fitted on. target, groups: shape (rows,); where folds are made inside, no group is in two."""

    frame: pd.DataFrame
    target: np.ndarray
    seed: int
    groups: np.ndarray | None

    def with_target(self, target: np.ndarray) -> _Rows:
        return replace(self, target=target)

    def part(self, chosen: np.ndarray) -> _Rows:
        """Some of them, in which no folds are made any more."""
        return _Rows(self.frame.iloc[chosen], self.target[chosen], self.seed, None)


def fit_all(
    candidates: Mapping[str, Candidate],
    frame: pd.DataFrame,
    target: np.ndarray,
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, Fitted]:
    """Fit every candidate once; an average uses the members that are fitted beside it.

    Args:
        frame: features, float64. target: shape (rows,).
        groups: shape (rows,); no calibration is fitted on rows whose group the model has seen.

    Raises:
        CandidateError: a feature, term, member or parameter that does not exist or does not fit.
    """
    fitted: dict[str, Fitted] = {
        name: fit_one(name, candidate, frame, target, seed, groups)
        for name, candidate in candidates.items()
        if candidate.family is not Family.AVERAGE
    }
    return {
        name: Average([fitted[member] for member in average_of(name, candidate, fitted)])
        if candidate.family is Family.AVERAGE
        else fitted[name]
        for name, candidate in candidates.items()
    }


def fit_one(
    name: str,
    candidate: Candidate,
    frame: pd.DataFrame,
    target: np.ndarray,
    seed: int,
    groups: np.ndarray | None = None,
) -> Fitted:
    """Fit a candidate that is not an average, as `fit_all` does."""
    began = time.monotonic()
    model = _fit(name, candidate, _Rows(frame, target, seed, groups))
    pace.note(pace.key_of(candidate), len(target), time.monotonic() - began)
    return model


def with_members(names: Collection[str], candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
    """Some of the candidates, and what averages among them are made of."""
    members = {one for name in names for one in candidates[name].members}
    return {name: one for name, one in candidates.items() if name in names or name in members}


def refuse_targets(name: str, candidate: Candidate, target: np.ndarray) -> None:
    """Refuse a candidate that cannot be fitted on these targets, before its library says so in its own words.

    Raises:
        CandidateError: one of them is not what it takes.
    """
    demand = candidate.demand
    if demand is not None and candidate.offset is None and not demand.takes.holds(float(target.min())):
        raise CandidateError(
            f"candidate {name}: {demand.words} is for targets {demand.takes}, and one is {target.min():g}; make such "
            "rows NULL in target.sql, or choose another"
        )


def average_of(name: str, candidate: Candidate, fitted: Collection[str]) -> list[str]:
    """The members of an average.

    Raises:
        CandidateError: it has none, or one is not among those that are fitted.
    """
    missing = [member for member in candidate.members if member not in fitted]
    if missing or not candidate.members:
        raise CandidateError(
            f"candidate {name} averages {', '.join(missing) or 'nothing'}; `members` may hold "
            f"the candidates that are fitted beside it and are not averages themselves: {', '.join(fitted)}"
        )
    return candidate.members


def _fit(name: str, candidate: Candidate, rows: _Rows) -> Fitted:
    if candidate.calibration is not None:
        return _calibrated(name, candidate, rows)
    if candidate.transform is not None:
        return _on_logarithms(name, candidate, rows)
    if candidate.trend is not None:
        return _with_trend(name, candidate, rows)
    if candidate.offset is not None:
        if candidate.offset not in rows.frame.columns:
            raise CandidateError(
                f"candidate {name}: offset {candidate.offset} is not a feature; "
                f"the features are {', '.join(rows.frame.columns)}"
            )
        rest = rows.target - rows.frame[candidate.offset].to_numpy(dtype=np.float64)
        plain = candidate.model_copy(update={"offset": None})
        return WithOffset(_fit(name, plain, rows.with_target(rest)), candidate.offset)
    frame, target = rows.frame, rows.target
    if candidate.family is Family.MEAN:
        return Constant(float(target.mean()), [])
    if candidate.family is Family.MEDIAN:
        return Constant(float(np.median(target)), [])
    unknown = [feature for feature in candidate.features if feature not in frame.columns]
    if unknown or not candidate.features:
        wrong = f"{', '.join(unknown)} is not a feature" if unknown else "it has no features"
        raise CandidateError(f"candidate {name}: {wrong}; the features are {', '.join(frame.columns)}")
    if candidate.family is Family.FEATURE:
        if len(candidate.features) != 1:
            raise CandidateError(f"candidate {name}: it passes on one feature, not {len(candidate.features)}")
        return PassThrough(candidate.features[0])
    features = candidate.features
    matrix = frame[features].to_numpy(dtype=np.float64)
    encoded = coding.fit(candidate, matrix, target, rows.seed)
    estimator = estimator_of(name, candidate, rows.seed, encoded.coding)
    refuse_targets(name, candidate, target)
    try:
        fitted = fitted_on_cores(candidate.family, estimator, encoded.matrix, target)
        return Estimator(candidate.family, features, fitted, encoded.coding)
    except (TypeError, ValueError) as error:
        raise CandidateError(
            f"candidate {name} ({candidate.family}) cannot be fitted on {len(frame)} rows: {error}"
        ) from error


def _unseen(name: str, candidate: Candidate, rows: _Rows, folds: int = CALIBRATION_FOLDS) -> np.ndarray:
    """Predictions that were made without their own rows, nor others of their group; shape (rows,)."""
    from sklearn.model_selection import GroupKFold, KFold

    kind = KFold if rows.groups is None else GroupKFold
    split = kind(folds, shuffle=True, random_state=rows.seed).split(rows.frame, groups=rows.groups)
    unseen = np.empty(len(rows.target))
    for train, test in split:
        unseen[test] = _fit(name, candidate, rows.part(train)).predict(rows.frame.iloc[test])
    return unseen


def _with_trend(name: str, candidate: Candidate, rows: _Rows) -> Fitted:
    """A line of time, and a model of the target divided by it.

    The line is fitted to what predictions of rows that the model has not seen leave of the target, each as certain as
    if it were a count: a model that knows no time is right on average over all of it, too high first and too low last.
    """
    refuse_targets(name, candidate, rows.target)
    assert candidate.trend is not None
    if candidate.trend not in rows.frame.columns:
        raise CandidateError(
            f"candidate {name}: trend {candidate.trend} is not a feature; the features are {', '.join(rows.frame.columns)}"
        )
    plain = candidate.model_copy(update={"trend": None})
    unseen = _unseen(name, plain, rows, TREND_FOLDS)
    time = rows.frame[candidate.trend].to_numpy(dtype=np.float64)
    line = Line.through(time, rows.target, unseen)
    rest = rows.with_target(rows.target / line.at(time))
    return WithTrend(_fit(name, plain, rest), candidate.trend, line)


def _on_logarithms(name: str, candidate: Candidate, rows: _Rows) -> FromLogarithm:
    """A model of the logarithms, and the factor that its powers of e fall short of the mean target.

    The factor is the mean of e^residual (Duan 1983, doi:10.1080/01621459.1983.10478017), each weighted by its
    prediction, so that the means are equal, and of rows that the model has not seen: on those it has seen a forest's
    residuals are so small that its forecasts stay 13 to 37 % too low.
    """
    refuse_targets(name, candidate, rows.target)
    plain = candidate.model_copy(update={"transform": None})
    # Around 0, because trees are added up in float32 when served.
    logarithms = np.log(rows.target)
    logarithms -= logarithms.mean()
    on_logarithms = rows.with_target(logarithms)
    unseen = _unseen(name, plain, on_logarithms)
    factor = float(rows.target.mean() / np.exp(unseen).mean())
    return FromLogarithm(_fit(name, plain, on_logarithms), factor)


def _calibrated(name: str, candidate: Candidate, rows: _Rows) -> Calibrated:
    """The model of all rows, and a curve through predictions that were made without their own rows."""
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    plain = candidate.model_copy(update={"calibration": None})
    unseen = _unseen(name, plain, rows)
    base, target = _fit(name, plain, rows), rows.target
    if candidate.calibration is Curve.SIGMOID:
        line = LogisticRegression(C=np.inf).fit(log_odds(unseen)[:, None], target)
        return Calibrated(base, np.empty(0), np.array([line.intercept_[0], line.coef_[0, 0]]), logits=True)
    # Through the means of bins, not through single rows: where two neighbours differ it would jump.
    parts = np.array_split(np.argsort(unseen, kind="stable"), min(CALIBRATION_BINS, len(target)))
    # Bins whose means differ in the last digits alone are one point: between them no slope can be measured.
    means = np.round([unseen[part].mean() for part in parts], CALIBRATION_DIGITS)
    x, positions = np.unique(means, return_inverse=True)
    sizes = np.bincount(positions, [len(part) for part in parts])
    share = np.bincount(positions, [target[part].sum() for part in parts]) / sizes
    rising = IsotonicRegression().fit_transform(x, share, sample_weight=sizes)
    return Calibrated(base, x, np.clip(rising, ISOTONIC_FLOOR, 1 - ISOTONIC_FLOOR), logits=False)
