"""Renewal: the assets from the search over the contest to the champion that serves."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import msgspec

from vroom_api.contract import (
    MANIFEST,
    Bundle,
    BundleError,
    Manifest,
    Pointer,
    bundle_folder,
    read_bundle,
    read_manifest,
    read_pointer,
)
from vroom_api.contract.tables import ledger as ledger_table
from vroom_api.contract.tables import serving_database
from vroom_assets import resources
from vroom_assets.automation import CHALLENGER, CHAMPION
from vroom_assets.spec import ForecastSpec

RETRY = dg.RetryPolicy(max_retries=1, delay=5)


def key(spec: ForecastSpec, name: str) -> dg.AssetKey:
    return dg.AssetKey([spec.name, name])


def common(spec: ForecastSpec, *kinds: str) -> dict[str, Any]:
    """What every asset of a forecast carries."""
    return {
        "group_name": spec.name,
        "owners": [spec.owner],
        "kinds": set(kinds),
    }


def training_assets(spec: ForecastSpec) -> dg.AssetsDefinition:
    """The search: one operation, one MLflow run, two assets (the table of scores and the model)."""
    code_version = spec.fingerprint("candidates", "validation", "gates")[:12]
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
                **common(spec, "duckdb", "scikitlearn"),
            ),
            dg.AssetSpec(
                challenger,
                deps=[key(spec, "cv_metrics")],
                description=(
                    f"The candidate that won the search, fitted on all rows, as version of the registered "
                    f"model `{spec.name}` in MLflow."
                ),
                code_version=code_version,
                **common(spec, "mlflow", "onnx", "scikitlearn"),
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
        retry_policy=RETRY,
        pool=f"{spec.name}_warehouse",
    )
    def training(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from train(context, spec)

    return training


def train(context: dg.AssetExecutionContext, spec: ForecastSpec) -> Iterator[Any]:
    """Search, fit, prove, register: the body of the two training assets."""
    from vroom_assets import challenger as challengers
    from vroom_assets import contest, dataset, plots
    from vroom_assets import training as chapter
    from vroom_assets.folds import TooFewRows
    from vroom_assets.measures import MEASURES

    measures = MEASURES[spec.target.kind]
    warehouse, ledger = context.resources.warehouse, context.resources.ledger
    with warehouse.connect(spec.name) as connection:
        try:
            data = dataset.read(connection, spec)
        except dataset.DatasetError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        features = dataset.definitions(spec)
        tags = {
            "vroom.forecast": spec.name,
            "vroom.data_version": data.data_version,
            "vroom.code_version": spec.fingerprint(),
            "vroom.attempt": str(context.retry_number + 1),
        }
        with context.resources.mlflow.run(spec.name, tags) as tracking:
            exports, refused = challengers.exportable(spec, features, data)
            for name, reason in refused.items():
                context.log.warning(f"candidate {name} may not compete: {reason}")
            if not exports:
                raise dg.Failure(description=f"no candidate can be exported: {refused}", allow_retries=False)
            if spec.fallback is not None and spec.fallback.candidate in refused:
                raise dg.Failure(
                    description=f"the fallback cannot be exported: {refused[spec.fallback.candidate]}",
                    allow_retries=False,
                )
            competing = {name: spec.candidates[name] for name in spec.candidates if name in exports}
            try:
                found = chapter.search(
                    data.features,
                    data.target,
                    competing,
                    spec.validation,
                    measures,
                    context.log.info,
                    data.arrangement,
                )
            except TooFewRows as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error
            calibration = chapter.calibration_of(found, found.chosen, data.target, measures)
            manifest = challengers.register(
                tracking,
                spec,
                features,
                data,
                found,
                exports[found.chosen],
                calibration,
                measures,
                context.run.run_id,
            )
            dataset.write_search(connection, found, data)
    failures = contest.failed_gates(
        manifest.metrics, calibration.coverage, float(data.target.mean()), spec.gates
    )
    trained = spec.trained_version(data.snapshots)
    ledger.enter(
        forecast=spec.name,
        actor=f"job {context.job_name}",
        event="training",
        decision="registered",
        reason=f"{found.chosen} won the search and is version {manifest.version}",
        evidence={
            "version": manifest.version,
            "candidate": found.chosen,
            "data_version": data.data_version,
            "mlflow_run": manifest.mlflow_run_id,
            "failed_gates": failures,
            "not_exportable": refused,
        },
        run_id=context.run.run_id,
    )
    means = found.fold_metrics.groupby("candidate").mean(numeric_only=True).drop(columns=["repeat", "fold"])
    yield dg.MaterializeResult(
        asset_key=key(spec, "cv_metrics"),
        data_version=dg.DataVersion(trained),
        metadata={
            "nested_" + measures.error: manifest.metrics[f"nested_{measures.error}"],
            "nested_" + measures.select: manifest.metrics[f"nested_{measures.select}"],
            "chosen": found.chosen,
            "chosen_without_seeing_the_fold": ", ".join(found.nested_choices),
            "candidates": dg.MetadataValue.md(means.sort_values(measures.select).round(4).to_markdown()),
            "not_exportable": dg.MetadataValue.json(refused),
            "plot": dg.MetadataValue.md(
                plots.markdown(
                    plots.candidates(found.fold_metrics, measures.error, found.chosen), "candidates"
                )
            ),
            **{f"{name}_{measures.error}": float(row[measures.error]) for name, row in means.iterrows()},
            **{
                f"error_by_{name}": dg.MetadataValue.md(
                    chapter.error_by(values, found, data.target, measures).round(4).to_markdown(index=False)
                )
                for name, values in data.tags.items()
            },
        },
    )
    yield dg.AssetCheckResult(
        asset_key=key(spec, CHALLENGER),
        check_name="gates",
        passed=not failures,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(failures) or "all gates passed",
        metadata={f"coverage_{name}": value for name, value in calibration.coverage.items()},
    )
    yield dg.MaterializeResult(
        asset_key=key(spec, CHALLENGER),
        data_version=dg.DataVersion(trained),
        metadata={
            "version": manifest.version,
            "candidate": found.chosen,
            "trained_version": trained,
            "mlflow_run": manifest.mlflow_run_id,
            **{name: value for name, value in manifest.metrics.items() if "fold_" not in name},
            "importances": dg.MetadataValue.md(
                plots.markdown(plots.importances(found.importances, measures.error), "importances")
            ),
            "predicted_and_observed": dg.MetadataValue.md(
                plots.markdown(
                    plots.predicted_and_seen(
                        found.predictions(found.chosen), data.target[found.predicted], spec.target.unit
                    ),
                    "predicted and observed",
                )
            ),
        },
    )


def contest_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, "contest"),
        deps=[key(spec, CHALLENGER), key(spec, "features")],
        description=(
            "Challenger against champion: both recipes on the same folds of the current data, paired row by row. "
            f"Promotes from {spec.contest.effect:.1%} gain at {spec.contest.confidence:.0%} confidence; refreshes a "
            f"champion trained on older data unless that costs more than {spec.contest.margin:.0%}; else holds."
        ),
        code_version=spec.fingerprint("contest", "gates")[:12],
        pool=f"{spec.name}_warehouse",
        **common(spec, "scikitlearn", "duckdb"),
    )
    def contest(
        context: dg.AssetExecutionContext,
        warehouse: resources.Warehouse,
        registry: resources.Registry,
        ledger: resources.Ledger,
    ) -> dg.MaterializeResult:
        from vroom_assets import contest as chapter
        from vroom_assets import dataset
        from vroom_assets.measures import MEASURES

        pointer, champion = current_champion(context, spec)
        manifest, _ = registry.challenger(spec.name)
        with warehouse.connect(spec.name) as connection:
            result = chapter.hold(
                connection,
                spec,
                dataset.read(connection, spec),
                MEASURES[spec.target.kind],
                challenger=manifest,
                champion=champion,
                generation=pointer.generation if pointer else 0,
                suspended=suspended_versions(spec.name),
            )
        chapter.write_result(result)
        ledger.enter(
            forecast=spec.name,
            actor=f"job {context.job_name}",
            event="contest",
            decision=result.verdict.value,
            reason=result.reason,
            evidence=msgspec.to_builtins(result),
            run_id=context.run.run_id,
        )
        context.log.info(f"{result.verdict}: {result.reason}")
        numbers = {f"comparison_{name}": value for name, value in result.comparison.items()}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{result.challenger}-{result.generation}"),
            metadata={
                "verdict": result.verdict.value,
                "reason": result.reason,
                "challenger": result.challenger,
                "champion": result.champion or 0,
                "failed_gates": dg.MetadataValue.json(result.failed_gates),
                **numbers,
                **{f"champion_on_unseen_{name}": value for name, value in result.unseen.items()},
            },
        )

    return contest


def champion_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, CHAMPION),
        deps=[key(spec, "contest")],
        description=(
            "The version that serves: published as a bundle when the contest promotes or refreshes, "
            "unchanged when it holds. The service swaps to it by itself."
        ),
        **common(spec, "onnx", "mlflow"),
    )
    def champion(
        context: dg.AssetExecutionContext, registry: resources.Registry, ledger: resources.Ledger
    ) -> dg.MaterializeResult:
        from vroom_assets import bundle
        from vroom_assets import contest as chapter

        result = chapter.read_result(spec.name)
        before = read_pointer(spec.name)
        decision, reason = "kept", result.reason
        if result.publishes:
            try:
                with registry.bundle(spec.name, result.challenger) as folder:
                    digest = registry.manifest_sha256(spec.name, result.challenger)
                    after = bundle.publish(folder, digest, generation=result.generation)
                decision = "published" if after != before else "kept"
            except (bundle.NotPublished, BundleError) as error:
                ledger.enter(
                    forecast=spec.name,
                    actor=f"job {context.job_name}",
                    event="champion",
                    decision="refused",
                    reason=str(error),
                    evidence=msgspec.to_builtins(result),
                    run_id=context.run.run_id,
                )
                raise dg.Failure(description=str(error), allow_retries=False) from error
        pointer = read_pointer(spec.name)
        if pointer is None:
            raise dg.Failure(description=f"no champion: {reason}", allow_retries=False)
        registry.set_alias(spec.name, CHAMPION, pointer.version)
        manifest = read_bundle(bundle_folder(spec.name, pointer.version), pointer.manifest_sha256).manifest
        ledger.enter(
            forecast=spec.name,
            actor=f"job {context.job_name}",
            event="champion",
            decision=decision,
            reason=f"version {pointer.version} serves: {reason}",
            evidence={
                "version": pointer.version,
                "generation": pointer.generation,
                "verdict": result.verdict.value,
            },
            run_id=context.run.run_id,
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(pointer.manifest_sha256),
            metadata={
                "version": pointer.version,
                "generation": pointer.generation,
                "decision": decision,
                "reason": reason,
                "candidate": manifest.recipe.name,
                "data_as_of": manifest.data_as_of,
                "data_version": manifest.data_version,
                "mlflow_run": manifest.mlflow_run_id,
                "bundle": dg.MetadataValue.path(str(bundle_folder(spec.name, pointer.version))),
                **{
                    name: value
                    for name, value in manifest.metrics.items()
                    if name.startswith(("nested_", "skill_"))
                },
                "ledger": dg.MetadataValue.md(latest_entries(spec.name)),
            },
        )

    return champion


def current_champion(
    context: dg.AssetExecutionContext, spec: ForecastSpec
) -> tuple[Pointer | None, Bundle | None]:
    """What serves now; a champion whose files are damaged competes no more."""
    pointer = read_pointer(spec.name)
    if pointer is None:
        return None, None
    try:
        return pointer, read_bundle(bundle_folder(spec.name, pointer.version), pointer.manifest_sha256)
    except BundleError as error:
        context.log.error(f"the champion cannot be read and does not compete: {error}")
        return pointer, None


def suspended_versions(forecast: str) -> list[Manifest]:
    """Manifests of the versions that were rolled back."""
    with serving_database() as engine, engine.connect() as connection:
        rows = connection.execute(
            ledger_table.select().where(
                ledger_table.c.forecast == forecast,
                ledger_table.c.event == "rollback",
                ledger_table.c.decision == "restored",
            )
        ).fetchall()
    versions = {row.evidence["from"] for row in rows}
    folders = [bundle_folder(forecast, version) / MANIFEST for version in sorted(versions)]
    return [read_manifest(path.read_bytes(), str(path)) for path in folders if path.exists()]


def latest_entries(forecast: str, count: int = 12) -> str:
    """The newest decisions as a Markdown table."""
    with serving_database() as engine, engine.connect() as connection:
        rows = connection.execute(
            ledger_table.select()
            .where(ledger_table.c.forecast == forecast)
            .order_by(ledger_table.c.id.desc())
            .limit(count)
        ).fetchall()
    lines = ["| time (UTC) | event | decision | reason |", "|---|---|---|---|"]
    lines += [
        f"| {row.time:%Y-%m-%d %H:%M:%S} | {row.event} | {row.decision} | {row.reason} |" for row in rows
    ]
    return "\n".join(lines)
