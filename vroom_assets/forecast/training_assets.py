"""The search of the candidates and the challenger that won it."""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from vroom_api.contract import Manifest
from vroom_api.contract.events import Decision, Registered
from vroom_assets.forecast.links import links
from vroom_assets.forecast.names import CHALLENGER, REASON_TAG, REQUESTED_TAG, TRAINED_TAG, key
from vroom_assets.forecast.versions import short
from vroom_assets.retries import retried
from vroom_assets.spec import ForecastSpec, Purpose

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from vroom_assets.challenger.experiment import Experiment
    from vroom_assets.features.table import Dataset

RETRY = dg.RetryPolicy(max_retries=1, delay=5)


def training_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    """The search: one operation, one MLflow run, two assets (the table of scores and the model)."""
    code_version = spec.fingerprint(Purpose.MODEL)[:12]
    challenger = key(spec, CHALLENGER)

    @dg.multi_asset(
        name=f"{spec.name}_training",
        specs=[
            dg.AssetSpec(
                key(spec, "cv_metrics"),
                deps=[key(spec, "features")],
                description=(
                    "Every candidate and baseline on the same repeated folds, with out-of-fold predictions; "
                    "tables `cv_metrics` and `out_of_fold` of the warehouse."
                ),
                code_version=code_version,
            ),
            dg.AssetSpec(
                challenger,
                deps=[key(spec, "cv_metrics")],
                description=(
                    f"The candidate that won the search, fitted on all rows, as version of the registered "
                    f"model `{spec.name}` in MLflow."
                ),
                code_version=code_version,
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec(
                "gates",
                asset=challenger,
                description="Interval coverage, bias and skill over the baselines; what fails here is never published.",
            )
        ],
        required_resource_keys={"warehouse", "ledger", "mlflow"},
        pool=f"{spec.name}_warehouse",
    )
    def training(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with retried(context, RETRY):
            yield from train(context, spec)

    return training


def train(context: dg.AssetExecutionContext, spec: ForecastSpec) -> Iterator[Any]:
    """Search, fit, prove, register: the body of the two training assets."""
    from vroom_assets.challenger import registration
    from vroom_assets.champion.gates import failed_gates
    from vroom_assets.training import summary

    warehouse, ledger = context.resources.warehouse, context.resources.ledger
    _check_candidates(spec)
    with warehouse.connect(spec.name) as connection:
        data = _features(connection, spec)
        spec = spec.with_levels(data.levels)
        why = record_what_is_trained(context, spec.trained_version(data.snapshots))
        tags = {
            "vroom.reason": why,
            "vroom.forecast": spec.name,
            "vroom.data_version": data.data_version,
            "vroom.code_version": spec.whole_fingerprint(),
            "vroom.attempt": str(context.retry_number + 1),
        }
        with context.resources.mlflow.run(spec.name, tags) as tracking:
            experiment, refused = _search(context, spec, data)
            summary.write_search(connection, experiment.search, data)
            manifest = registration.register(experiment, tracking, context.run.run_id)
    trained = manifest.trained_version
    failures = failed_gates(manifest.scores, manifest.target_mean, spec.gates)
    ledger.enter(
        forecast=spec.name,
        actor=f"job {context.job_name}",
        decision=Decision.REGISTERED,
        reason=f"{manifest.recipe.name} won the search and is version {manifest.version}",
        evidence=Registered(
            version=manifest.version,
            candidate=manifest.recipe.name,
            data_version=data.data_version,
            mlflow_run=manifest.mlflow_run_id,
            failed_gates=failures,
            not_exportable=refused,
            trained_version=trained,
        ),
        run_id=context.run.run_id,
    )
    yield dg.MaterializeResult(
        asset_key=key(spec, "cv_metrics"),
        data_version=dg.DataVersion(trained),
        metadata=_search_metadata(experiment, refused),
    )
    yield dg.AssetCheckResult(
        asset_key=key(spec, CHALLENGER),
        check_name="gates",
        passed=not failures,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(failures) or "all gates passed",
        metadata={f"coverage_{name}": value for name, value in experiment.calibration.coverage.items()},
    )
    yield dg.MaterializeResult(
        asset_key=key(spec, CHALLENGER),
        data_version=dg.DataVersion(trained),
        metadata=_challenger_metadata(experiment, manifest) | {"trained_version": trained, "why": why},
    )


def _check_candidates(spec: ForecastSpec) -> None:
    """Refuse parameters that no estimator takes, before anything is fitted."""
    from vroom_assets.training import families, models

    for name, candidate in spec.candidates.items():
        try:
            families.check_parameters(name, candidate)
        except models.CandidateError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error


def record_what_is_trained(context: dg.AssetExecutionContext, version: str) -> str:
    """Tag the run with the version that it trains and why, which is returned.

    Between a request and its run, files change and a declaration is loaded again.
    """
    tags = context.run.tags
    why = tags.get(REASON_TAG, "it was started by hand")
    requested = tags.get(REQUESTED_TAG, short(version))
    if requested != short(version):
        why = (
            f"version {requested} was requested ({why}); the sources or the declaration changed again before "
            f"the training began: version {short(version)}"
        )
    context.instance.add_run_tags(context.run.run_id, {TRAINED_TAG: short(version), REASON_TAG: why})
    return why


def _features(connection: "DuckDBPyConnection", spec: ForecastSpec) -> "Dataset":
    from vroom_assets.features import table

    try:
        return table.read(connection, spec)
    except table.DatasetError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def _search(
    context: dg.AssetExecutionContext, spec: ForecastSpec, data: "Dataset"
) -> tuple["Experiment", dict[str, str]]:
    """The search among the candidates that can be served, and why others cannot."""
    from vroom_assets.challenger import parity
    from vroom_assets.challenger.experiment import Experiment
    from vroom_assets.training.folds import TooFewRows
    from vroom_assets.training.metrics import METRIC_SETS
    from vroom_assets.training.models import CandidateError
    from vroom_assets.training.sampling import FULL_ROWS, sample
    from vroom_assets.training.search import is_raced, search
    from vroom_assets.training.tuning import tune_on_all

    metric_set, declared = METRIC_SETS[spec.target.kind], spec.candidates
    raced = is_raced(len(data.target), declared)
    try:
        tuned = tune_on_all(
            declared, data.features, data.target, spec.validation, metric_set, data.row_structure
        )
        spec = spec.with_values(tuned.candidates)
        proved = data.take(sample(data.row_structure, FULL_ROWS, spec.validation.seed)) if raced else data
        exports, refused = parity.exportable(spec, proved)
        while True:
            _report_refused(context, spec, exports, refused)
            found = search(
                data.features,
                data.target,
                {name: candidate for name, candidate in declared.items() if name in exports},
                spec.validation,
                metric_set,
                context.log.info,
                data.row_structure,
                spec.gates.reference,
                kept=[spec.fallback.candidate] if spec.fallback is not None else [],
            )
            if not raced:
                return Experiment(spec, data, found, exports[found.chosen], tuned.tried), refused
            try:
                exported = parity.export(spec, data, found.chosen, found.fitted)
                return Experiment(spec, data, found, exported, tuned.tried), refused
            except parity.NotExportable as error:  # on a sample it was
                del exports[found.chosen]
                refused[found.chosen] = str(error)
    except (TooFewRows, CandidateError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def _report_refused(
    context: dg.AssetExecutionContext,
    spec: ForecastSpec,
    exports: Collection[str],
    refused: Mapping[str, str],
) -> None:
    """Say which candidates may not compete, and fail if that leaves nothing to serve."""
    for name, reason in refused.items():
        context.log.warning(f"candidate {name} may not compete: {reason}")
    if not exports:
        raise dg.Failure(description=f"no candidate can be exported: {refused}", allow_retries=False)
    if spec.fallback is not None and spec.fallback.candidate in refused:
        raise dg.Failure(
            description=f"the fallback cannot be exported: {refused[spec.fallback.candidate]}",
            allow_retries=False,
        )


def _search_metadata(experiment: "Experiment", refused: dict[str, str]) -> dict[str, Any]:
    from vroom_assets import plots

    found, metric_set, scores = experiment.search, experiment.metric_set, experiment.scores
    means, tried = experiment.fold_means, experiment.tried
    return {
        **{f"nested_{name}": scores.nested[name] for name in (metric_set.error, metric_set.select)},
        "chosen": found.chosen,
        "why": found.choice.why,
        "chosen_without_seeing_the_fold": ", ".join(found.nested_choices),
        "candidates": dg.MetadataValue.md(means.round(4).to_markdown()),
        **(
            {"race": dg.MetadataValue.md(found.standings.round(4).to_markdown(index=False))}
            if len(found.standings)
            else {}
        ),
        **({"tried": dg.MetadataValue.md(tried.round(4).to_markdown(index=False))} if len(tried) else {}),
        "not_exportable": dg.MetadataValue.json(refused),
        "plot": dg.MetadataValue.md(plots.markdown(experiment.pictures["candidates"], "candidates")),
        **{f"{name}_{metric_set.error}": float(row[metric_set.error]) for name, row in means.iterrows()},
        **{
            f"error_by_{name}": dg.MetadataValue.md(parts.round(4).to_markdown(index=False))
            for name, parts in experiment.errors_by_tag.items()
        },
    }


def _challenger_metadata(experiment: "Experiment", manifest: Manifest) -> dict[str, Any]:
    from vroom_assets import plots

    pictures = experiment.pictures
    return {
        "version": manifest.version,
        "candidate": manifest.recipe.name,
        "mlflow_run": manifest.mlflow_run_id,
        **links(manifest.forecast, manifest.version),
        **{name: value for name, value in manifest.metrics.items() if "fold_" not in name},
        "importances": dg.MetadataValue.md(plots.markdown(pictures["importances"], "importances")),
        "predicted_and_observed": dg.MetadataValue.md(
            plots.markdown(pictures["predicted_and_observed"], "predicted and observed")
        ),
    }
