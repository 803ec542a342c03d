"""Going back to an earlier calibration revision of the champion, or to none."""

import dagster as dg
from pydantic import Field

from vroom_api.contract.events import Decision, ReversalRefused
from vroom_assets.forecast.names import FORECAST_TAG
from vroom_assets.spec import ForecastSpec


class GoBack(dg.Config):
    """What to go back to, and why."""

    revision: int = Field(
        0,
        ge=0,
        description="the calibration revision to put in force again; 0 is none: the bundle's own intervals",
    )
    reason: str = Field("asked for by an operator", description="why, for the ledger")


def recalibration_job(spec: ForecastSpec) -> dg.JobDefinition:
    """Put an earlier calibration revision in force again, or none; only outcomes from then on count for another one."""

    @dg.op(
        name=f"recalibrate_{spec.name}",
        description="`revision` is the one to put in force again (0: none); `reason` goes into the ledger.",
        required_resource_keys={"ledger"},
    )
    def go_back(context: dg.OpExecutionContext, config: GoBack) -> None:
        from vroom_assets.monitoring import revisions

        number = config.revision or None
        actor, run_id = "job recalibrate", context.run.run_id
        try:
            pointer = revisions.go_back(spec.name, number, config.reason, actor=actor, run_id=run_id)
        except revisions.NotReverted as error:
            context.resources.ledger.enter(
                forecast=spec.name,
                actor=actor,
                decision=Decision.REFUSED,
                reason=str(error),
                evidence=ReversalRefused(asked=number),
                run_id=run_id,
            )
            raise dg.Failure(description=str(error), allow_retries=False) from error
        force = "none is" if pointer.number is None else f"{pointer.number} is"
        context.log.info(f"calibration revision: {force} in force; {config.reason}")

    @dg.job(
        name=f"{spec.name}_recalibrate",
        tags={FORECAST_TAG: spec.name},
        description=(
            "Put an earlier calibration revision in force again, or none. In the launchpad, `revision` is its number, or "
            "0 for none; `reason` goes into the ledger. Only outcomes that arrive later count for another revision."
        ),
    )
    def recalibrate() -> None:
        go_back()

    return recalibrate
