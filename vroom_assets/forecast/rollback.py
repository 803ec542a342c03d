"""Roll-back: an earlier version serves again."""

import dagster as dg
from pydantic import Field

from vroom_api.contract import Pointer, bundle_folder, read_bundle
from vroom_api.contract.events import Decision, RollbackRefused, RolledBack
from vroom_assets.champion import publication
from vroom_assets.forecast.champion_assets import champion_metadata
from vroom_assets.forecast.names import CHAMPION, DATA_VERSION_TAG, FORECAST_TAG, key
from vroom_assets.spec import ForecastSpec


class RollBack(dg.Config):
    """What to go back to, and why."""

    version: int = Field(
        0, ge=0, description="the version to serve again; 0 is the one published before the one that serves"
    )
    reason: str = Field("asked for by an operator", description="why, for the ledger")


def restored(spec: ForecastSpec, pointer: Pointer, reason: str) -> dg.AssetMaterialization:
    """What serves again, as an event of the asset `champion`, whose page would show what was replaced."""
    manifest = read_bundle(
        bundle_folder(spec.name, pointer.version), pointer.manifest_sha256, spec.name
    ).manifest
    return dg.AssetMaterialization(
        key(spec, CHAMPION),
        description=f"version {pointer.version} {reason}",
        metadata=champion_metadata(spec, pointer, manifest, Decision.RESTORED, reason),
        tags={DATA_VERSION_TAG: pointer.manifest_sha256},
    )


def rollback_job(spec: ForecastSpec) -> dg.JobDefinition:
    """Serve an earlier version again; what it replaces is not promoted again automatically."""

    @dg.op(
        name=f"roll_back_{spec.name}",
        description="`version` is the one to serve again (0: the one published before the one that serves); `reason` goes into the ledger.",
        required_resource_keys={"registry", "ledger"},
    )
    def roll_back(context: dg.OpExecutionContext, config: RollBack) -> None:
        registry, ledger = context.resources.registry, context.resources.ledger
        try:
            before, after = publication.restore(
                spec.name,
                config.version or None,
                lambda version: registry.manifest_sha256(spec.name, version),
            )
        except Exception as error:
            ledger.enter(
                forecast=spec.name,
                actor="job rollback",
                decision=Decision.REFUSED,
                reason=str(error),
                evidence=RollbackRefused(asked=config.version),
                run_id=context.run.run_id,
            )
            raise dg.Failure(description=str(error), allow_retries=False) from error
        if not registry.mark_champion(spec.name, after):
            context.log.warning(
                f"MLflow does not have version {after.version}; its alias `{CHAMPION}` names none"
            )
        ledger.enter(
            forecast=spec.name,
            actor="job rollback",
            decision=Decision.RESTORED,
            reason=f"version {after.version} serves again instead of {before.version}: {config.reason}",
            evidence=RolledBack(before=before.version, after=after.version, generation=after.generation),
            run_id=context.run.run_id,
        )
        reason = f"serves again instead of version {before.version}: {config.reason}"
        context.log.info(f"version {after.version} {reason}")
        context.log_event(restored(spec, after, reason))

    @dg.job(
        name=f"{spec.name}_rollback",
        tags={FORECAST_TAG: spec.name},
        description=(
            "Serve an earlier version again, after checking that it loads and scores. In the launchpad, `version` is "
            "its number, or 0 for the one published before the one that serves; `reason` goes into the ledger."
        ),
    )
    def rollback() -> None:
        roll_back()

    return rollback
