"""Do outcomes bring intervals and probabilities back to what they promise, and leave alone what is fine?

    python tests/benchmarks/recalibration.py [--streams 40] [--days 365] [--rows 50] [--parts change width …]

Champions are forests trained on 1,000 rows each from the generator beside the shipped data, with intervals from their
out-of-fold residuals; probabilities are logistic with a law of their own. Outcomes arrive --rows a day; at the end of each
day what they ask for is published, as the monitoring does. Coverage is that of the intervals in force on 20,000 fresh rows
of the same law, so it has no noise of the stream itself. Beside it stands the same champion left alone.

Exits with 1 when after `STATED` outcomes fewer than 90 % of the streams are back within 0.88-0.92, or more than 5 % of the
healthy ones were corrected.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pandas as pd
from contest import MEASURE, RECIPES, draw
from sklearn.model_selection import KFold

from vroom_api.contract import Calibration, FeatureField, Kind, Manifest, Recipe
from vroom_api.contract.calibrations import Correction
from vroom_assets.monitoring.adaptive import factors
from vroom_assets.monitoring.recalibration import LEVEL, Feedback, InUse, feedback_of, propose
from vroom_assets.spec.monitoring import Monitoring
from vroom_assets.training.fitting import fit_all
from vroom_assets.training.intervals import calibrate
from vroom_assets.training.metrics import METRIC_SETS

RULES = Monitoring()
FRESH = 20_000
BEFORE = 1_000  # healthy outcomes before a change
CHECKED = (0, 100, 200, 400, 800, 1_200, 1_600, 2_400, 3_200)  # outcomes after it
STATED = 1_600
BAND = (0.88, 0.92)
TRAINED = 1_000


@dataclass(frozen=True)
class Law:
    """Predictions and outcomes of one champion, drawn under one law."""

    prediction: np.ndarray
    outcome: np.ndarray

    def sample(self, count: int, rng: np.random.Generator) -> "Law":
        chosen = rng.integers(0, len(self.outcome), count)
        return Law(self.prediction[chosen], self.outcome[chosen])

    def then(self, other: "Law") -> "Law":
        return Law(
            np.concatenate([self.prediction, other.prediction]), np.concatenate([self.outcome, other.outcome])
        )


@dataclass(frozen=True)
class Champion:
    """A trained champion, and fresh rows under each demand."""

    calibration: Calibration
    laws: dict[float, Law]

    def manifest(self, kind: Kind) -> Manifest:
        return manifest_of(self.calibration, kind)


@dataclass
class Story:
    """What became of one stream: the corrections by the number of outcomes after which they were published."""

    published: list[tuple[int, Correction]] = field(default_factory=list)

    def at(self, outcomes: int) -> Correction:
        before = [correction for count, correction in self.published if count <= outcomes]
        return before[-1] if before else Correction()


def manifest_of(calibration: Calibration, kind: Kind) -> Manifest:
    """A manifest of which only kind and calibration are read here."""
    texts = dict.fromkeys(
        ("forecast", "title", "entity", "target", "unit", "horizon", "data_version", "data_as_of", "code_version",
         "trained_at", "mlflow_run_id", "dagster_run_id"), "",
    )  # fmt: skip
    empty: list[FeatureField] = []
    return Manifest(
        format=1,
        version=1,
        kind=kind,
        inputs=[],
        features=empty,
        recipe=Recipe(name="", family="", features=[], definition={}),
        calibration=calibration,
        metrics={},
        importances={},
        rows=TRAINED,
        target_mean=0.0,
        snapshots={},
        libraries={},
        files={},
        **texts,
    )


def champion(number: int) -> Champion:
    """A forest on a draw of its own."""
    rng = np.random.default_rng([number, 7])
    frame, target = draw(TRAINED, rng)
    recipe = {"good": RECIPES["good"]}
    prediction, folds = np.zeros(TRAINED), np.zeros(TRAINED, dtype=int)
    for fold, (rest, mine) in enumerate(KFold(5, shuffle=True, random_state=number).split(frame)):
        fitted = fit_all(recipe, frame.iloc[rest], target[rest], seed=fold)["good"]
        prediction[mine], folds[mine] = fitted.predict(frame.iloc[mine]), fold
    whole = fit_all(recipe, frame, target, seed=number)["good"]
    laws = {}
    for demand in (1.0, 1.3, 0.7):
        rows, outcome = draw(FRESH, rng, demand)
        laws[demand] = Law(whole.predict(rows), outcome)
    return Champion(calibrate(target, prediction, folds, MEASURE), laws)


def probabilities(number: int, intercept: float, slope: float) -> Champion:
    """Probabilities whose logit is normal; under the law 2.0 the outcomes have another intercept and slope."""
    rng = np.random.default_rng([number, 8])

    def law(rows: int, a: float, b: float) -> Law:
        logit = rng.normal(-0.8, 1.3, rows)
        yes = rng.random(rows) < 1 / (1 + np.exp(-(a + b * logit)))
        return Law(1 / (1 + np.exp(-logit)), yes.astype(float))

    trained = law(TRAINED, 0.0, 1.0)
    calibration = calibrate(
        trained.outcome, trained.prediction, np.arange(TRAINED) % 5, METRIC_SETS[Kind.BINARY]
    )
    return Champion(calibration, {1.0: law(FRESH, 0.0, 1.0), 2.0: law(FRESH, intercept, slope)})


def followed(manifest: Manifest, stream: Law, rows: int) -> Story:
    """Publish at the end of each day what the outcomes so far ask for."""
    days = np.arange(len(stream.outcome)) // rows
    given = feedback_of(
        manifest,
        pd.DataFrame(
            {
                "prediction": stream.prediction,
                "outcome": stream.outcome,
                "outcome_at": pd.Timestamp("2026-01-01") + pd.to_timedelta(days, unit="D"),
            }
        ),
    )
    story, in_use = Story(), InUse()
    for end in range(rows, len(given) + 1, rows):
        so_far = Feedback(
            given.prediction[:end], given.outcome[:end], given.arrived[:end], given.half_widths[:end]
        )
        found = propose(manifest, RULES, so_far, in_use)
        if found.correction is not None:
            story.published.append((end, found.correction))
            in_use = InUse(found.correction, found.outcomes, found.since, found.until, refined=True)
    return story


def coverage(calibration: Calibration, law: Law) -> float:
    low, high = calibration.bounds(law.prediction, LEVEL)
    return float(((low <= law.outcome) & (law.outcome <= high)).mean())


def calibration_error(law: Law, correction: Correction) -> float:
    """Mean |share of yes - mean probability| over ten bins of as many rows."""
    predicted = correction.probabilities(law.prediction)
    order = np.array_split(np.argsort(predicted), 10)
    return float(np.mean([abs(law.outcome[one].mean() - predicted[one].mean()) for one in order]))


def widened(one: Champion, factor: float) -> Champion:
    """The same with intervals of another width."""
    quantiles = [factor * quantile for quantile in one.calibration.quantiles]
    return Champion(msgspec.structs.replace(one.calibration, quantiles=quantiles), one.laws)


def show(name: str, alone: list[float], found: dict[int, list[float]], revisions: list[int]) -> None:
    print(f"\n{name}: left alone {np.mean(alone):.3f}; revisions published {np.mean(revisions):.1f}")
    print(f"{'outcomes after the change':32}" + "".join(f"{count:>8}" for count in found))
    print(f"{'coverage, mean':32}" + "".join(f"{np.mean(values):8.3f}" for values in found.values()))
    print(
        f"{'lowest tenth of the streams':32}" + "".join(f"{np.quantile(v, 0.1):8.3f}" for v in found.values())
    )
    print(f"{'highest tenth':32}" + "".join(f"{np.quantile(v, 0.9):8.3f}" for v in found.values()))
    print(f"{'share of streams in 0.88-0.92':32}" + "".join(f"{inside(v):8.2f}" for v in found.values()))


def inside(values: list[float]) -> float:
    array = np.array(values)
    return float(((array >= BAND[0]) & (array <= BAND[1])).mean())


def changes(champions: list[Champion], streams: int, rows: int, scenario: str) -> float:
    """Coverage after a change; the share of streams inside the band after the stated number of outcomes."""
    alone: list[float] = []
    found: dict[int, list[float]] = {count: [] for count in CHECKED}
    revisions: list[int] = []
    for number in range(streams):
        rng = np.random.default_rng([number, 11])
        one = champions[number % len(champions)]
        after = one.laws[{"demand x1.3": 1.3, "demand x0.7": 0.7}.get(scenario, 1.0)]
        before = BEFORE if scenario.startswith("demand") else 0
        if scenario.startswith("width"):
            one = widened(one, {"width x2/3": 2 / 3, "width x4/3": 4 / 3}[scenario])
        stream = one.laws[1.0].sample(before, rng).then(after.sample(max(CHECKED), rng))
        story = followed(one.manifest(Kind.COUNT), stream, rows)
        alone.append(coverage(one.calibration, after))
        revisions.append(len(story.published))
        for count in CHECKED:
            found[count].append(coverage(story.at(before + count).calibration(one.calibration), after))
    show(scenario, alone, found, revisions)
    return inside(found[STATED])


def shares(streams: int, rows: int) -> None:
    for name, intercept, slope in (
        ("intercept +0.7", 0.7, 1.0),
        ("intercept -0.7", -0.7, 1.0),
        ("slope 0.6", 0.0, 0.6),
    ):
        alone, found = [], {count: [] for count in CHECKED}
        for number in range(streams):
            rng = np.random.default_rng([number, 12])
            one = probabilities(number, intercept, slope)
            stream = one.laws[1.0].sample(BEFORE, rng).then(one.laws[2.0].sample(max(CHECKED), rng))
            story = followed(one.manifest(Kind.BINARY), stream, rows)
            alone.append(calibration_error(one.laws[2.0], Correction()))
            for count in CHECKED:
                found[count].append(calibration_error(one.laws[2.0], story.at(BEFORE + count)))
        print(f"\nprobabilities, {name}: calibration error left alone {np.mean(alone):.3f}")
        print(f"{'outcomes after the change':32}" + "".join(f"{count:>8}" for count in found))
        print(f"{'calibration error, mean':32}" + "".join(f"{np.mean(v):8.3f}" for v in found.values()))
        print(
            f"{'highest tenth of the streams':32}"
            + "".join(f"{np.quantile(v, 0.9):8.3f}" for v in found.values())
        )


def healthy(champions: list[Champion], kind: Kind, streams: int, days: int, rows: int) -> float:
    """The share of healthy streams that were ever corrected.

    Args:
        champions: of counts; each stream of probabilities has one of its own.
    """
    corrected, before, after = [], [], []
    for number in range(streams):
        rng = np.random.default_rng([number, 13])
        counts = kind is Kind.COUNT
        one = champions[number % len(champions)] if counts else probabilities(number, 0.0, 1.0)
        law = one.laws[1.0]
        story = followed(one.manifest(kind), law.sample(days * rows, rng), rows)
        corrected.append(bool(story.published))
        last = story.at(days * rows)
        if counts:
            before.append(coverage(one.calibration, law))
            after.append(coverage(last.calibration(one.calibration), law))
        else:
            before.append(calibration_error(law, Correction()))
            after.append(calibration_error(law, last))
    what = "coverage" if kind is Kind.COUNT else "calibration error"
    print(
        f"\nhealthy, {kind.value}: {np.mean(corrected):.1%} of {streams} streams of {days} days x {rows} outcomes were "
        f"ever corrected; {what} {np.mean(before):.3f} at first (from {min(before):.3f} to {max(before):.3f}), "
        f"{np.mean(after):.3f} at the end (from {min(after):.3f} to {max(after):.3f})"
    )
    return float(np.mean(corrected))


def steps(champions: list[Champion], streams: int) -> None:
    """Why the level adapts as slowly as it does: the spread of coverage over streams, by step."""
    print(
        "\nsteps of the adaptive level, demand x1.3 known from the first outcome on: share of streams in 0.88-0.92"
    )
    print(f"{'step':>8}" + "".join(f"{count:>8}" for count in CHECKED[1:]))
    for step in (0.0, 0.0005, 0.001, 0.005, 0.02):
        found: dict[int, list[float]] = {count: [] for count in CHECKED[1:]}
        for number in range(streams):
            rng = np.random.default_rng([number, 14])
            one = champions[number % len(champions)]
            law = one.laws[1.3].sample(max(CHECKED), rng)
            plain = msgspec.structs.replace(one.calibration, integer=False, minimum=None)
            low, high = plain.bounds(law.prediction, LEVEL)
            error = law.outcome - law.prediction
            below = factors(-error / (law.prediction - low), (1 - LEVEL) / 2, 1.0, step)
            above = factors(error / (high - law.prediction), (1 - LEVEL) / 2, 1.0, step)
            for count in found:
                correction = Correction(lower=float(below[count]), upper=float(above[count]))
                found[count].append(coverage(correction.calibration(one.calibration), one.laws[1.3]))
        print(f"{step:8.4f}" + "".join(f"{inside(values):8.2f}" for values in found.values()))


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("change", "width", "shares", "healthy", "healthy-shares", "steps")
    arguments.add_argument("--streams", type=int, default=40)
    arguments.add_argument("--champions", type=int, default=20)
    arguments.add_argument("--days", type=int, default=365)
    arguments.add_argument("--rows", type=int, default=50)
    arguments.add_argument("--parts", nargs="*", choices=parts, default=parts)
    given = arguments.parse_args()
    began = time.monotonic()
    champions = [champion(number) for number in range(min(given.champions, given.streams))]
    print(f"{len(champions)} champions, {given.streams} streams of each kind, {given.rows} outcomes a day")
    good = True
    if "steps" in given.parts:
        steps(champions, given.streams)
    if "change" in given.parts:
        back = changes(champions, given.streams, given.rows, "demand x1.3")
        good &= back >= 0.9
        changes(champions, given.streams, given.rows, "demand x0.7")
    if "width" in given.parts:
        for scenario in ("width x2/3", "width x4/3"):
            good &= changes(champions, given.streams, given.rows, scenario) >= 0.9
    if "shares" in given.parts:
        shares(given.streams, given.rows)
    for part, kind in (("healthy", Kind.COUNT), ("healthy-shares", Kind.BINARY)):
        if part in given.parts:
            good &= healthy(champions, kind, given.streams, given.days, given.rows) <= 0.05
    print(f"\n{'yes' if good else 'NO '}  {time.monotonic() - began:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
