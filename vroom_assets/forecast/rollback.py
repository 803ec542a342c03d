"""Roll-back: an earlier version serves again."""

import dagster as dg
from pydantic import Field

from vroom_api.contract.events import Decision, RollbackRefused, RolledBack
from vroom_assets.champion import publication
from vroom_assets.forecast.names import CHAMPION, FORECAST_TAG
from vroom_assets.spec import ForecastSpec


class RollBack(dg.Config):
    """What to go back to, and why."""

    version: int = Field(
        0, ge=0, description="the version to serve again; 0 is the one published before the one that serves"
    )
    reason: str = Field("asked for by an operator", description="why, for the ledger")


def rollback_job(spec: ForecastSpec) -> dg.JobDefinition:
    """Serve an earlier version again; what it replaces is not promoted again automatically."""

    @dg.op(name=f"roll_back_{spec.name}", required_resource_keys={"registry", "ledger"})
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
        registry.set_alias(spec.name, CHAMPION, after.version)
        ledger.enter(
            forecast=spec.name,
            actor="job rollback",
            decision=Decision.RESTORED,
            reason=f"version {after.version} serves again instead of {before.version}: {config.reason}",
            evidence=RolledBack(before=before.version, after=after.version, generation=after.generation),
            run_id=context.run.run_id,
        )
        context.log.info(f"version {after.version} serves again instead of {before.version}")

    @dg.job(
        name=f"{spec.name}_rollback",
        tags={FORECAST_TAG: spec.name},
        description="Serve an earlier version again, after checking that it loads and scores.",
    )
    def rollback() -> None:
        roll_back()

    return rollback
