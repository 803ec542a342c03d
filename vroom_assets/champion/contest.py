"""The contest: a challenger replaces the champion on evidence, not on noise.

Both recipes are fitted again and scored on the same folds of the current data, so that neither the
data nor the split can favour one of them. The paired differences per row decide; the corrected
resampled t-test (Nadeau & Bengio 2003, doi:10.1023/A:1024068626366) over the folds is reported beside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from vroom_api.contract import Bundle, InputField, Manifest, Recipe, durable, forecast_folder
from vroom_api.contract.decoding import decode
from vroom_api.contract.events import ContestResult, Decision
from vroom_assets.champion.comparison import Entrant, WentBack, compare, judge
from vroom_assets.champion.gates import failed_baselines, failed_gates, failed_shifts
from vroom_assets.features import table as feature_table
from vroom_assets.features.expressions import Feature, texts_of, times_of
from vroom_assets.features.table import Dataset
from vroom_assets.spec import Candidate, Column, ForecastSpec, Purpose, Required
from vroom_assets.training.metrics import MetricSet

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

RESULT = "contest.json"


class NoContest(Exception):
    """There is no result to act on."""


def write_result(result: ContestResult) -> None:
    """Keep the latest result where the champion asset finds it."""
    durable.replace(forecast_folder(result.forecast) / RESULT, msgspec.json.encode(result))


def read_result(forecast: str) -> ContestResult:
    """The latest result.

    Raises:
        NoContest: there has been none.
    """
    path = forecast_folder(forecast) / RESULT
    try:
        return decode(durable.read(path), ContestResult)
    except FileNotFoundError:
        raise NoContest(f"{forecast}: no contest was held yet; materialize `contest` first") from None


def run_contest(
    connection: DuckDBPyConnection,
    spec: ForecastSpec,
    data: Dataset,
    metric_set: MetricSet,
    challenger: Manifest,
    champion: Bundle | None,
    generation: int,
    suspended: Collection[Manifest],
) -> ContestResult:
    """Let the challenger compete with the champion on the current data.

    Args:
        suspended: versions that were rolled back; neither they nor their equals return by themselves.
    """
    spec = spec.with_levels(data.levels)
    gates = failed_gates(challenger.scores, challenger.target_mean, spec.gates)
    if champion is not None:
        gates += failed_shifts(champion.manifest, challenger, float(data.target.std()), spec.gates)
    rolled_back = [
        other.version
        for other in suspended
        if other.mlflow_run_id == challenger.mlflow_run_id
        or (other.data_version == challenger.data_version and other.recipe == challenger.recipe)
    ]
    may_be_provisional = (
        bool(gates)
        and generation == 0
        and spec.gates.require is Required.BASELINES
        and not failed_baselines(challenger.scores)
    )
    if gates and not may_be_provisional:  # what is held anyway is not fitted again
        decided = _Decided(Decision.HOLD, f"a gate is not passed: {'; '.join(gates)}")
    elif challenger.data_version != data.data_version:
        decided = _Decided(Decision.HOLD, "the features changed since it was trained: train again")
    elif rolled_back:
        decided = _Decided(Decision.HOLD, f"it equals version {rolled_back[0]}, which was rolled back")
    elif champion is None:
        decided = _first(gates)
    elif champion.manifest.mlflow_run_id == challenger.mlflow_run_id:
        decided = _Decided(Decision.HOLD, "it serves already")
    else:
        decided = _compared(connection, spec, data, metric_set, challenger, champion.manifest)
    served = as_it_serves(connection, spec, champion, data, metric_set) if champion else Served({}, {})
    return ContestResult(
        forecast=spec.name,
        challenger=challenger.version,
        champion=champion.manifest.version if champion else None,
        generation=generation,
        verdict=decided.verdict,
        reason=decided.reason,
        failed_gates=gates,
        comparison=decided.comparison,
        serving=served.all_rows,
        unseen=served.unseen_rows,
        data_version=data.data_version,
        judging_version=spec.fingerprint(Purpose.JUDGING),
        provisional=decided.provisional,
    )


@dataclass(frozen=True)
class _Decided:
    """A verdict, why, and the figures of a comparison."""

    verdict: Decision
    reason: str
    comparison: dict[str, float] = field(default_factory=dict)
    provisional: bool = False


def _first(gates: list[str]) -> _Decided:
    """A champion where there is none, as provisional with gates that it has not passed."""
    if not gates:
        return _Decided(Decision.PROMOTE, "there is no champion yet")
    return _Decided(
        Decision.PROMOTE,
        "there is no champion yet, and it is better than the baselines; it serves as provisional, because a gate is not "
        f"passed: {'; '.join(gates)}",
        provisional=True,
    )


def _compared(
    connection: DuckDBPyConnection,
    spec: ForecastSpec,
    data: Dataset,
    metric_set: MetricSet,
    challenger: Manifest,
    champion: Manifest,
) -> _Decided:
    """The verdict on both recipes, scored on the same folds."""
    theirs = entrant(connection, spec, champion, data)
    if theirs is None:
        return _Decided(Decision.PROMOTE, "the data no longer have the inputs that the champion needs")
    ours = entrant(connection, spec, challenger, data)
    if ours is None:
        return _Decided(Decision.HOLD, "the data no longer have the inputs that it needs: train again")
    found = compare(theirs, ours, data.target, spec.validation, metric_set, data.row_structure)
    verdict, reason = judge(
        found,
        spec.contest,
        same_recipe=ours.same_recipe(theirs),
        new_data=challenger.data_version != champion.data_version,
        new_declaration=challenger.code_version != champion.code_version,
        went_back=WentBack(challenger.data_as_of, champion.data_as_of)
        if challenger.data_as_of < champion.data_as_of
        else None,
    )
    return _Decided(verdict, reason, found.as_evidence())


def entrant(
    connection: DuckDBPyConnection, spec: ForecastSpec, manifest: Manifest, data: Dataset
) -> Entrant | None:
    """A version's recipe with its own feature definitions on the current data; None if inputs are gone."""
    if not {field.name for field in manifest.inputs} <= set(data.inputs.columns):
        return None
    columns = spec.input_columns
    # Of a category the levels are those of the data; those of the champion may be others.
    declared = [field for field in manifest.inputs if field.values and columns[field.name].values]
    if any(set(field.values) - set(columns[field.name].values) for field in declared):
        return None
    if not _same_types(manifest.inputs, columns):
        return None
    texts, times = texts_of(columns), times_of(columns)
    features = [
        Feature(feature.name, feature.expression, texts, times=times) for feature in manifest.features
    ]
    categories, optional = spec.categories_of(features), spec.optional_of(features)
    candidates = {
        name: one.on_features(categories, optional) for name, one in candidates_of(manifest.recipe).items()
    }
    return Entrant(
        name=manifest.recipe.name,
        candidates=candidates,
        frame=feature_table.recompute(connection, data.inputs, features),
    )


def _same_types(fields: Sequence[InputField], columns: Mapping[str, Column]) -> bool:
    """Whether what was a time is one, and nothing else became one."""
    return all((field.type == "time") is columns[field.name].is_time for field in fields)


def candidates_of(recipe: Recipe) -> dict[str, Candidate]:
    """The recipe and its members as they were declared when it was trained, with the values that were chosen then."""
    return {
        name: Candidate(**definition).with_values(recipe.values.get(name, {}))
        for name, definition in recipe.definition.items()
    }


def _indices(field: InputField, column: Column, values: np.ndarray) -> np.ndarray:
    """Values of an input in the data as a champion has them: the levels of a category have its own indices."""
    if not field.is_open:
        return values
    own = np.array([field.encoded(level) for level in column.levels])
    missing = np.isnan(values)
    return np.where(missing, np.nan, own[np.nan_to_num(values).astype(int)])


class Served(NamedTuple):
    """Figures of the champion as it serves, by name: on all current rows, and on those its training did not have."""

    all_rows: dict[str, float]
    unseen_rows: dict[str, float]


def as_it_serves(
    connection: DuckDBPyConnection, spec: ForecastSpec, champion: Bundle, data: Dataset, metric_set: MetricSet
) -> Served:
    """The champion exactly as it serves, scored on the current data.

    Nothing where the data no longer have its inputs, or its texts are other ones in them.
    """
    from vroom_api.contract.model import open_model, score
    from vroom_assets.challenger.onnx_graph import CHUNK

    fields = champion.manifest.inputs
    declared = spec.input_columns
    if not {field.name for field in fields} <= set(data.inputs.columns):
        return Served({}, {})
    other_texts = any(not field.is_open and field.values != declared[field.name].levels for field in fields)
    if other_texts or not _same_types(fields, declared):
        return Served({}, {})
    inputs = np.stack(
        [_indices(field, declared[field.name], data.inputs[field.name].to_numpy(float)) for field in fields],
        axis=1,
    )
    session = open_model(champion.model)
    parts = [score(session, inputs[start : start + CHUNK])[0] for start in range(0, len(inputs), CHUNK)]
    prediction = np.concatenate(parts)

    def figures(rows: np.ndarray) -> dict[str, float]:
        if not rows.any():
            return {}
        observed, predicted = data.target[rows], prediction[rows]
        means = {"mean_target": float(observed.mean()), "mean_prediction": float(predicted.mean())}
        scores = {name: metric(observed, predicted) for name, metric in metric_set.metrics.items()}
        return {"rows": float(rows.sum())} | means | scores

    seen = feature_table.keys_of(connection, data.forecast, champion.manifest.data_version)
    new = np.zeros(len(data.keys), dtype=bool) if seen is None else ~np.isin(data.keys, seen)
    return Served(figures(np.ones(len(data.keys), dtype=bool)), figures(new))
