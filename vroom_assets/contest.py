"""The contest: a challenger replaces the champion on evidence, not on noise.

Both recipes are fitted again and scored on the same folds of the current data, so that neither the
data nor the split can favour one of them. The paired differences per row decide; the corrected
resampled t-test (Nadeau & Bengio 2003, doi:10.1023/A:1024068626366) over the folds is reported beside.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pandas as pd

from vroom_api.contract import Bundle, Manifest, Recipe, forecast_folder
from vroom_assets import dataset
from vroom_assets.bundle import write_beside
from vroom_assets.dataset import Dataset
from vroom_assets.features import Feature, texts_of
from vroom_assets.folds import Arrangement, Split, outer_splits
from vroom_assets.measures import Measures
from vroom_assets.spec import Candidate, Contest, ForecastSpec, Gates, Validation
from vroom_assets.training import fit_split, one_by_one

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

RESULT = "contest.json"


class Verdict(StrEnum):
    PROMOTE = "promote"
    REFRESH = "refresh"
    HOLD = "hold"


@dataclass(frozen=True)
class Entrant:
    """A recipe with the features as its own definitions compute them on the current data.

    candidates: the recipe and, for an average, its members; name: which of them competes.
    frame: its features, one row per entity, rows in the same order for both entrants.
    """

    name: str
    candidates: dict[str, Candidate]
    frame: pd.DataFrame

    def same_recipe(self, other: Entrant) -> bool:
        mine, theirs = self.candidates[self.name], other.candidates[other.name]
        members = [self.candidates[m] for m in mine.members] == [other.candidates[m] for m in theirs.members]
        same = mine.model_copy(update={"members": []}) == theirs.model_copy(update={"members": []})
        return same and members and self.frame[self.features].equals(other.frame[other.features])

    @property
    def features(self) -> list[str]:
        recipe = self.candidates[self.name]
        return recipe.features or [f for m in recipe.members for f in self.candidates[m].features]


@dataclass(frozen=True)
class Comparison:
    """Champion against challenger on the same rows; a positive gain means the challenger errs less."""

    rows: int
    champion_error: float
    challenger_error: float
    gain: float
    relative_gain: float
    row_z: float
    folds_t: float
    folds_p: float

    def as_evidence(self) -> dict[str, float]:
        return asdict(self)


def corrected_t(differences: np.ndarray, test_share: float) -> tuple[float, float]:
    """Corrected resampled t-test of mean fold differences against 0, one-sided.

    Args:
        differences: one mean difference per fold and repeat, shape (J,).
        test_share: rows tested over rows trained on, 1 / (folds - 1) for k-fold.

    Returns:
        t and the probability of a t at least as large if there were no difference.
    """
    from scipy.stats import t as student

    count = len(differences)
    spread = differences.std(ddof=1)
    if spread == 0:
        return 0.0, 1.0 if differences.mean() <= 0 else 0.0
    statistic = differences.mean() / (spread * np.sqrt(1 / count + test_share))
    return float(statistic), float(student.sf(statistic, count - 1))


def standard_error(values: np.ndarray, groups: np.ndarray | None) -> float:
    """Of the mean of values; those of one group are taken to move together (Liang & Zeger 1986).

    Args:
        values: shape (n,). groups: shape (n,), or None where all are independent.
    """
    count = len(values)
    if groups is None:
        return float(values.std(ddof=1) / np.sqrt(count))
    _, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, weights=values - values.mean())
    clusters = len(sums)
    return float(np.sqrt((sums**2).sum() * clusters / (clusters - 1)) / count)


def compare(
    champion: Entrant,
    challenger: Entrant,
    target: np.ndarray,
    validation: Validation,
    measures: Measures,
    rows: Arrangement | None = None,
) -> Comparison:
    """Score both recipes on the same repeated folds of the current data, paired per row.

    Args:
        rows: how they hang together, None where they are independent.
    """
    rows = rows or Arrangement(len(target))
    folds = outer_splits(rows, validation)

    def losses(entrant: Entrant) -> list[np.ndarray]:
        def score(split: Split) -> np.ndarray:
            models = fit_split(entrant.candidates, entrant.frame, target, split, validation, rows)
            prediction = models[entrant.name].predict(entrant.frame.iloc[split.test])
            return measures.row_loss(target[split.test], prediction)

        return list(one_by_one(score, folds))

    champion_losses = losses(champion)
    challenger_losses = champion_losses if challenger.same_recipe(champion) else losses(challenger)
    gains, champion_error, times = np.zeros(rows.rows), np.zeros(rows.rows), np.zeros(rows.rows)
    fold_gains = np.empty(len(folds))
    for number, split in enumerate(folds):
        difference = champion_losses[number] - challenger_losses[number]
        gains[split.test] += difference
        champion_error[split.test] += champion_losses[number]
        times[split.test] += 1
        fold_gains[number] = difference.mean()
    tested = times > 0
    gains, champion_error = gains[tested] / times[tested], champion_error[tested] / times[tested]
    deviation = standard_error(gains, None if rows.groups is None else rows.groups[tested])
    share = float(np.mean([len(split.test) / len(split.train) for split in folds]))
    statistic, probability = corrected_t(fold_gains, share)
    gain, error = float(gains.mean()), float(champion_error.mean())
    return Comparison(
        rows=int(tested.sum()),
        champion_error=error,
        challenger_error=error - gain,
        gain=gain,
        relative_gain=gain / error if error > 0 else 0.0,
        row_z=gain / deviation if deviation > 0 else 0.0,
        folds_t=statistic,
        folds_p=probability,
    )


def judge(
    comparison: Comparison,
    rules: Contest,
    *,
    same_recipe: bool,
    new_data: bool,
    new_declaration: bool = False,
) -> tuple[Verdict, str]:
    """The verdict on a comparison and its reason in a sentence."""
    from scipy.stats import norm

    needed_z = float(norm.ppf(rules.confidence))
    share = f"{comparison.relative_gain:+.2%} of the champion's error"
    if comparison.relative_gain >= rules.effect and comparison.row_z > needed_z:
        return Verdict.PROMOTE, (
            f"better by {share} (at least {rules.effect:.2%} is asked for), z {comparison.row_z:.2f} > {needed_z:.2f}"
        )
    if new_data and same_recipe:
        return Verdict.REFRESH, "the champion's own recipe, trained on newer data"
    if new_data and comparison.relative_gain >= -rules.margin:
        return Verdict.REFRESH, (
            f"trained on newer data and not worse: {share}, a loss up to {rules.margin:.2%} is allowed"
        )
    if new_declaration and same_recipe:
        return Verdict.REFRESH, "the champion's own recipe on the same data, under a changed declaration"
    if same_recipe:
        return Verdict.HOLD, "the same recipe on the same data: nothing new"
    return Verdict.HOLD, (
        f"not proved better: {share}, z {comparison.row_z:.2f} (needs {rules.effect:.2%} and z > {needed_z:.2f})"
    )


def failed_gates(
    metrics: dict[str, float], coverage: dict[str, float], target_mean: float, gates: Gates
) -> list[str]:
    """The gates that a challenger's out-of-fold figures do not pass, each as a sentence.

    Args:
        metrics: of `training.summary`. coverage: of the calibration, at the 0.9 level.
    """
    failures = []
    low, high = gates.coverage
    if coverage and not low <= coverage["overall"] <= high:
        failures.append(
            f"coverage of the 90 % interval is {coverage['overall']:.3f}, not within {low}-{high}"
        )
    for name, value in coverage.items():
        if name.endswith("tercile") and value < gates.tercile_coverage:
            failures.append(
                f"coverage in the {name.replace('_', ' ')} is {value:.3f}, below {gates.tercile_coverage}"
            )
    if not low <= (covered := metrics.get("fallback_coverage_overall", low)) <= high:
        failures.append(f"coverage of the fallback's 90 % interval is {covered:.3f}, not within {low}-{high}")
    for name, value in metrics.items():
        if name.startswith("skill_") and value <= 0:
            _, _, rest = name.partition("skill_")
            failures.append(f"{rest.replace('_', ' ')}: no better than that baseline ({value:+.3f})")
    error = metrics.get("nested_calibration_error", 0.0)
    if error > gates.calibration_error:
        failures.append(f"calibration error is {error:.3f}, more than {gates.calibration_error}")
    loss = metrics.get("loss_over_reference", 0.0)
    if loss > gates.reference_margin:
        failures.append(
            f"error is {loss:.2%} above that of {gates.reference}, more than {gates.reference_margin:.2%}"
        )
    share = abs(metrics["nested_bias"]) / abs(target_mean) if target_mean else 0.0
    if share > gates.bias:
        failures.append(f"mean error is {share:.1%} of the mean target, more than {gates.bias:.0%}")
    return failures


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A contest's outcome: what the champion asset acts on and the ledger keeps."""

    forecast: str
    challenger: int
    champion: int | None
    generation: int  # of the pointer it was decided against, 0 where there was none
    verdict: Verdict
    reason: str
    failed_gates: list[str]
    comparison: dict[str, float]
    unseen: dict[str, float]  # the champion as it serves, on rows it has never seen
    data_version: str

    @property
    def publishes(self) -> bool:
        return self.verdict is not Verdict.HOLD


class NoContest(Exception):
    """There is no result to act on."""


def write_result(result: Result) -> None:
    """Keep the latest result where the champion asset finds it."""
    write_beside(forecast_folder(result.forecast) / RESULT, msgspec.json.encode(result))


def read_result(forecast: str) -> Result:
    """The latest result.

    Raises:
        NoContest: there has been none.
    """
    path = forecast_folder(forecast) / RESULT
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except FileNotFoundError:
        raise NoContest(f"{forecast}: no contest was held yet; materialize `contest` first") from None


def hold(
    connection: DuckDBPyConnection,
    spec: ForecastSpec,
    data: Dataset,
    measures: Measures,
    challenger: Manifest,
    champion: Bundle | None,
    generation: int,
    suspended: Collection[Manifest],
) -> Result:
    """Let the challenger compete with the champion on the current data.

    Args:
        suspended: versions that were rolled back; neither they nor their equals return by themselves.
    """
    gates = failed_gates(
        challenger.metrics, challenger.calibration.coverage, challenger.target_mean, spec.gates
    )
    comparison: dict[str, float] = {}
    unseen: dict[str, float] = {}
    rolled_back = [
        other.version
        for other in suspended
        if other.version == challenger.version
        or (other.data_version == challenger.data_version and other.recipe == challenger.recipe)
    ]
    if champion is None:
        verdict, reason = Verdict.PROMOTE, "there is no champion yet"
    elif champion.manifest.version == challenger.version:
        verdict, reason = Verdict.HOLD, "it serves already"
    else:
        theirs = entrant(connection, spec, champion.manifest, data)
        if theirs is None:
            verdict, reason = Verdict.PROMOTE, "the data no longer have the inputs that the champion needs"
        else:
            ours = entrant(connection, spec, challenger, data)
            assert ours is not None, "a challenger is trained on the current data"
            found = compare(theirs, ours, data.target, spec.validation, measures, data.arrangement)
            comparison = found.as_evidence()
            verdict, reason = judge(
                found,
                spec.contest,
                same_recipe=ours.same_recipe(theirs),
                new_data=challenger.data_version != champion.manifest.data_version,
                new_declaration=challenger.code_version != champion.manifest.code_version,
            )
            unseen = on_unseen_rows(connection, spec, champion, data, measures)
    if rolled_back:
        verdict, reason = Verdict.HOLD, f"it equals version {rolled_back[0]}, which was rolled back"
    if challenger.data_version != data.data_version:
        verdict, reason = Verdict.HOLD, "the features changed since it was trained: train again"
    if gates:
        verdict, reason = Verdict.HOLD, f"a gate is not passed: {'; '.join(gates)}"
    return Result(
        forecast=spec.name,
        challenger=challenger.version,
        champion=champion.manifest.version if champion else None,
        generation=generation,
        verdict=verdict,
        reason=reason,
        failed_gates=gates,
        comparison=comparison,
        unseen=unseen,
        data_version=data.data_version,
    )


def entrant(
    connection: DuckDBPyConnection, spec: ForecastSpec, manifest: Manifest, data: Dataset
) -> Entrant | None:
    """A version's recipe with its own feature definitions on the current data; None if inputs are gone."""
    if not {field.name for field in manifest.inputs} <= set(data.inputs.columns):
        return None
    if any(set(field.values) - set(spec.input_columns[field.name].values) for field in manifest.inputs):
        return None
    texts = texts_of(spec.input_columns)
    features = [Feature(feature.name, feature.expression, texts) for feature in manifest.features]
    return Entrant(
        name=manifest.recipe.name,
        candidates=candidates_of(manifest.recipe),
        frame=dataset.recompute(connection, data.inputs, features),
    )


def candidates_of(recipe: Recipe) -> dict[str, Candidate]:
    """The recipe and its members as they were declared when it was trained."""
    return {name: Candidate(**definition) for name, definition in recipe.definition.items()}


def on_unseen_rows(
    connection: DuckDBPyConnection, spec: ForecastSpec, champion: Bundle, data: Dataset, measures: Measures
) -> dict[str, float]:
    """The champion exactly as it serves, scored on entities that its training did not have.

    Nothing where its texts have other places than in the current data.
    """
    import onnxruntime

    if any(field.values != spec.input_columns[field.name].values for field in champion.manifest.inputs):
        return {}
    seen = dataset.keys_of(connection, data.forecast, champion.manifest.data_version)
    if seen is None:
        return {}
    rows = ~np.isin(data.keys, seen)
    if not rows.any():
        return {}
    session = onnxruntime.InferenceSession(champion.model, providers=["CPUExecutionProvider"])
    names = [field.name for field in champion.manifest.inputs]
    (prediction,) = session.run(["prediction"], {"inputs": data.inputs.loc[rows, names].to_numpy()})
    return {"rows": float(rows.sum())} | {
        name: score(data.target[rows], prediction) for name, score in measures.metrics.items()
    }
