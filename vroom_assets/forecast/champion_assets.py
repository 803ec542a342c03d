"""The contest and the champion."""

from contextlib import ExitStack
from typing import Any

import dagster as dg
import sqlalchemy as sa

from vroom_api.contract import (
    MANIFEST,
    Bundle,
    BundleError,
    Manifest,
    Pointer,
    bundle_folder,
    manifest_of,
    read_bundle,
    read_pointer,
)
from vroom_api.contract.alerts import resolve_alert
from vroom_api.contract.events import (
    ContestResult,
    Decision,
    Event,
    NotPublished,
    Published,
    RolledBack,
    TrialChanged,
    evidence_of,
)
from vroom_api.contract.tables import ledger as ledger_table
from vroom_api.contract.tables import serving_database
from vroom_assets import ledger, resources, tracking
from vroom_assets.forecast.links import links
from vroom_assets.forecast.names import CHALLENGER, CHAMPION, ROLLED_BACK, key
from vroom_assets.ledger import latest_entries
from vroom_assets.spec import ForecastSpec, Purpose


def contest_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, "contest"),
        deps=[key(spec, CHALLENGER), key(spec, "features")],
        description=(
            "Challenger against champion: both recipes on the same folds of the current data, paired row by row. "
            f"Promotes from {spec.contest.effect:.1%} gain at {spec.contest.confidence:.0%} confidence; refreshes a "
            f"champion trained on older data unless that costs more than {spec.contest.margin:.0%}; else holds.\n\n"
            "`comparison_champion_error` is of the champion's recipe, fitted again on today's data; "
            "`champion_as_it_serves_…` is of the model that answers requests, on the same rows, most of which it "
            "was trained on."
        ),
        code_version=spec.fingerprint(Purpose.JUDGING)[:12],
        pool=f"{spec.name}_warehouse",
    )
    def contest(
        context: dg.AssetExecutionContext,
        warehouse: resources.Warehouse,
        registry: tracking.Registry,
        ledger: ledger.Ledger,
    ) -> dg.MaterializeResult:
        return compete(context, spec, warehouse, registry, ledger)

    return contest


def compete(
    context: dg.AssetExecutionContext,
    spec: ForecastSpec,
    warehouse: resources.Warehouse,
    registry: tracking.Registry,
    ledger: ledger.Ledger,
) -> dg.MaterializeResult:
    """Let the challenger compete with what serves, and enter the verdict: the body of the asset `contest`."""
    from vroom_assets.champion import contest
    from vroom_assets.features import table as feature_table
    from vroom_assets.training.metrics import METRIC_SETS

    pointer, champion = current_champion(context, spec)
    manifest, _ = registry.challenger(spec.name)
    with warehouse.connect(spec.name) as connection:
        result = contest.run_contest(
            connection,
            spec,
            feature_table.read(connection, spec),
            METRIC_SETS[spec.target.kind],
            challenger=manifest,
            champion=champion,
            generation=pointer.generation if pointer else 0,
            suspended=suspended_versions(spec.name),
        )
    contest.write_result(result)
    ledger.enter(
        forecast=spec.name,
        actor=f"job {context.job_name}",
        decision=result.verdict,
        reason=result.reason,
        evidence=result,
        run_id=context.run.run_id,
    )
    registry.note_verdict(spec.name, result.challenger, result.verdict.value, result.reason)
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
            "judging_version": spec.fingerprint(Purpose.JUDGING),
            **numbers,
            **{f"champion_as_it_serves_{name}": value for name, value in result.serving.items()},
            **{f"champion_on_unseen_{name}": value for name, value in result.unseen.items()},
        },
    )


def champion_asset(spec: ForecastSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(spec, CHAMPION),
        deps=[key(spec, "contest")],
        description=(
            "The version that serves: published as a bundle when the contest promotes or refreshes, "
            "unchanged when it holds. When only texts of the declaration change, the same model is published again "
            "with them, as a new version. The service loads it by itself."
        ),
        code_version=spec.fingerprint(Purpose.SERVING)[:12],
    )
    def champion(
        context: dg.AssetExecutionContext, registry: tracking.Registry, ledger: ledger.Ledger
    ) -> dg.MaterializeResult:
        return publish(context, spec, registry, ledger)

    return champion


def publish(
    context: dg.AssetExecutionContext,
    spec: ForecastSpec,
    registry: tracking.Registry,
    ledger: ledger.Ledger,
) -> dg.MaterializeResult:
    """Publish what the contest decided, and enter what serves: the body of the asset `champion`."""
    from vroom_assets.champion import contest, publication

    result = contest.read_result(spec.name)
    try:
        pointer, decision, reason = serve(spec, registry, result)
    except (publication.NotPublished, BundleError) as error:
        ledger.enter(
            forecast=spec.name,
            actor=f"job {context.job_name}",
            decision=Decision.REFUSED,
            reason=str(error),
            evidence=NotPublished(version=result.challenger, generation=result.generation),
            run_id=context.run.run_id,
        )
        raise dg.Failure(description=str(error), allow_retries=False) from error
    if pointer is None:
        raise dg.Failure(description=f"no champion: {reason}", allow_retries=False)
    if not registry.mark_champion(spec.name, pointer):
        context.log.warning(
            f"MLflow does not have version {pointer.version}, which serves; its alias `{CHAMPION}` names none"
        )
    manifest = read_bundle(
        bundle_folder(spec.name, pointer.version), pointer.manifest_sha256, spec.name
    ).manifest
    if decision is Decision.PUBLISHED:
        with serving_database() as engine:
            resolve_alert(engine, forecast=spec.name, kind=ROLLED_BACK)
    ledger.enter(
        forecast=spec.name,
        actor=f"job {context.job_name}",
        decision=decision,
        reason=f"version {pointer.version} serves: {reason}",
        evidence=Published(
            version=pointer.version,
            generation=pointer.generation,
            verdict=result.verdict,
            serving_version=spec.fingerprint(Purpose.SERVING),
            provisional=pointer.provisional,
        ),
        run_id=context.run.run_id,
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(pointer.manifest_sha256),
        metadata=champion_metadata(spec, pointer, manifest, decision, reason)
        | keep_to_try(context, spec, registry, result),
    )


def keep_to_try(
    context: dg.AssetExecutionContext, spec: ForecastSpec, registry: tracking.Registry, result: ContestResult
) -> dict[str, Any]:
    """Keep a challenger that was held and passes all gates, so that it can be tried beside the champion: metadata."""
    from vroom_assets.champion import publication

    version = result.challenger
    compared = bool(
        result.comparison
    )  # what was held without a comparison is nothing new, or was rolled back
    if result.verdict is not Decision.HOLD or result.failed_gates or not compared:
        return {}
    try:
        digest = registry.manifest_sha256(spec.name, version)
        with registry.bundle(spec.name, version) as folder:
            publication.keep(folder, digest, forecast=spec.name)
    except (publication.NotPublished, BundleError, LookupError) as error:
        context.log.warning(f"version {version} was held and cannot be tried: {error}")
        return {}
    return {"may_be_tried": f"version {version}: POST /forecasts/{spec.name}/trial"}


def champion_metadata(
    spec: ForecastSpec, pointer: Pointer, manifest: Manifest, decision: Decision, reason: str
) -> dict[str, Any]:
    """What Dagster's page of the asset `champion` shows of the version that serves."""
    return {
        "version": pointer.version,
        "generation": pointer.generation,
        "decision": decision.value,
        "reason": reason,
        "candidate": manifest.recipe.name,
        "provisional": "; ".join(pointer.provisional) or "no",
        "serving_version": spec.fingerprint(Purpose.SERVING),
        "data_as_of": manifest.data_as_of,
        "data_version": manifest.data_version,
        "mlflow_run": manifest.mlflow_run_id,
        **links(spec.name, pointer.version),
        "bundle": dg.MetadataValue.path(str(bundle_folder(spec.name, pointer.version))),
        **manifest.metrics,
        **_beside_former(spec, pointer),
        "ledger": dg.MetadataValue.md(latest_entries(spec.name)),
    }


def _beside_former(spec: ForecastSpec, pointer: Pointer) -> dict[str, Any]:
    """What changed with a version, and what it would have answered to the latest requests; nothing of the first one."""
    from vroom_assets.champion.versions import UnknownVersion
    from vroom_assets.report import rendering, versions

    try:
        page = versions.beside_former(spec.name, pointer, spec.gates)
    except (UnknownVersion, BundleError, OSError) as error:
        return {"beside_former": f"it cannot be compared with what served before: {error}"}
    return {} if page is None else {"beside_former": dg.MetadataValue.md(rendering.markdown(page))}


def serve(
    spec: ForecastSpec, registry: tracking.Registry, result: ContestResult
) -> tuple[Pointer | None, Decision, str]:
    """Publish what a contest decided, with the texts of the declaration: the pointer, the decision and its reason."""
    from vroom_assets.challenger.manifest import OtherMeaning, described_as_declared
    from vroom_assets.champion import publication
    from vroom_assets.champion.restatement import restated

    before = read_pointer(spec.name)
    generation = before.generation if before else 0
    with ExitStack() as stack:
        if result.publishes(generation):
            decision, reason = Decision.PUBLISHED, result.reason
            provisional = tuple(result.failed_gates) if result.provisional else ()
            folder = stack.enter_context(registry.bundle(spec.name, result.challenger))
            digest = registry.manifest_sha256(spec.name, result.challenger)
        elif before is not None and before.retired is None:
            decision, reason = Decision.KEPT, result.reason
            if result.generation != before.generation and result.challenger != before.version:
                reason = "it was published after the latest contest, whose verdict does not count any more"
            folder, digest = bundle_folder(spec.name, before.version), before.manifest_sha256
        else:
            return None, Decision.KEPT, result.reason
        bundle = read_bundle(folder, digest, spec.name)
        try:
            words = described_as_declared(spec, bundle.manifest)
        except OtherMeaning as error:
            words, reason = bundle.manifest, f"{reason}; {error}"
        if (
            words != bundle.manifest
            and decision is Decision.KEPT
            and not registry.holds(spec.name, bundle.manifest.version, digest)
        ):
            words = bundle.manifest
            reason = f"{reason}; MLflow no longer has it, so its texts change with the next training only"
        if words != bundle.manifest:
            folder, digest = stack.enter_context(restated(registry, bundle, words))
            if decision is Decision.KEPT:
                decision, reason = (
                    Decision.RESTATED,
                    f"the model of version {bundle.manifest.version}, with the texts of the changed declaration",
                )
        if before is not None and decision is not Decision.PUBLISHED:
            provisional = judged_anew(registry, result, before, bundle.manifest)
            if provisional != before.provisional and decision is Decision.KEPT:
                decision = Decision.CONFIRMED
                reason = (
                    f"it is still provisional, by other gates: {'; '.join(provisional)}"
                    if provisional
                    else "it passes every gate now, and is provisional no more"
                )
        if decision is Decision.KEPT:
            return before, decision, reason
        pointer = publication.publish(
            folder, digest, forecast=spec.name, generation=generation, provisional=provisional
        )
        return pointer, decision, reason


def judged_anew(
    registry: tracking.Registry, result: ContestResult, before: Pointer, serving: Manifest
) -> tuple[str, ...]:
    """The gates that a provisional champion has not passed: by the latest contest, if that was about it."""
    if not before.provisional or result.generation != before.generation:
        return before.provisional
    challenger, _ = registry.challenger(serving.forecast)
    about_it = challenger.mlflow_run_id == serving.mlflow_run_id
    return tuple(result.failed_gates) if about_it else before.provisional


def current_champion(
    context: dg.AssetExecutionContext, spec: ForecastSpec
) -> tuple[Pointer | None, Bundle | None]:
    """What serves now; a champion whose files are damaged competes no more."""
    pointer = read_pointer(spec.name)
    if pointer is None or pointer.retired is not None:
        return pointer, None
    try:
        return pointer, read_bundle(
            bundle_folder(spec.name, pointer.version), pointer.manifest_sha256, spec.name
        )
    except BundleError as error:
        context.log.error(f"the champion cannot be read and does not compete: {error}")
        return pointer, None


def suspended_versions(forecast: str) -> list[Manifest]:
    """Manifests of the versions that were rolled back, and that nobody has gone back to or promoted since."""
    of_rollbacks = ledger_table.select().where(
        ledger_table.c.forecast == forecast,
        sa.or_(
            sa.and_(ledger_table.c.event == Event.ROLLBACK, ledger_table.c.decision == Decision.RESTORED),
            sa.and_(ledger_table.c.event == Event.TRIAL, ledger_table.c.decision == Decision.PROMOTED),
        ),
    )
    with serving_database() as engine, engine.connect() as connection:
        rows = connection.execute(of_rollbacks.order_by(ledger_table.c.id)).fetchall()
    suspended: dict[int, Manifest] = {}
    for row in rows:
        if row.event == Event.TRIAL:
            suspended.pop(evidence_of(TrialChanged, row.evidence).version, None)
            continue
        back = evidence_of(RolledBack, row.evidence)
        before, after = _manifest_of(forecast, back.before), _manifest_of(forecast, back.after)
        if before is not None:
            suspended[back.before] = before
        restored = after.mlflow_run_id if after is not None else None
        suspended = {
            version: manifest
            for version, manifest in suspended.items()
            if version != back.after and manifest.mlflow_run_id != restored
        }
    return [suspended[version] for version in sorted(suspended)]


def _manifest_of(forecast: str, version: int) -> Manifest | None:
    """The manifest of a published version, None where it is not there any more."""
    is_there = (bundle_folder(forecast, version) / MANIFEST).exists()
    return manifest_of(forecast, version) if is_there else None
