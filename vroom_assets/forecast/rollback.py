"""Roll-back: an earlier version serves again, because an operator asks for it or because its successor is worse."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from vroom_api.contract import BundleError, Pointer, bundle_folder, read_bundle
from vroom_api.contract.alerts import Severity, raise_alert, resolve_alert
from vroom_api.contract.events import Decision, RollbackRefused, RolledBack, RolledBackByItself
from vroom_api.contract.tables import serving_database
from vroom_assets import tracking
from vroom_assets.champion import publication
from vroom_assets.forecast.champion_assets import champion_metadata
from vroom_assets.forecast.names import CALLER_TAG, CHAMPION, DATA_VERSION_TAG, FORECAST_TAG, ROLLED_BACK, key
from vroom_assets.ledger import Ledger
from vroom_assets.spec import ForecastSpec

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

    from vroom_assets.monitoring.shadow import Estimate, Rows, Succession, SuccessorVerdict


class RollBack(dg.Config):
    """What to go back to, and why."""

    version: int = Field(
        0, ge=0, description="the version to serve again; 0 is the one published before the one that serves"
    )
    reason: str = Field("asked for by an operator", description="why, for the ledger")
    generation: int = Field(
        0,
        ge=0,
        description="of the pointer that this is decided against: of any other nothing is rolled back; 0 is whatever serves",
    )


@dataclass(frozen=True)
class Actor:
    """Who rolls back: the name for the ledger, and the Dagster run."""

    name: str
    run_id: str | None = None


@dataclass(frozen=True)
class WayBack:
    """What became of a new champion after its outcomes were looked up.

    restored: the pointer, where the version before serves again. events: to be logged, so that the page of the asset
    `champion` shows what serves.
    """

    watched: "SuccessorVerdict"
    restored: Pointer | None = None
    events: Sequence[dg.AssetMaterialization] = ()
    refused: str = ""  # why nothing was restored although it is worse
    metadata: Mapping[str, Any] = field(default_factory=dict)


def restored(
    spec: ForecastSpec, pointer: Pointer, reason: str, decision: Decision = Decision.RESTORED
) -> dg.AssetMaterialization:
    """What serves again, as an event of the asset `champion`, whose page would show what was replaced."""
    manifest = read_bundle(
        bundle_folder(spec.name, pointer.version), pointer.manifest_sha256, spec.name
    ).manifest
    return dg.AssetMaterialization(
        key(spec, CHAMPION),
        description=f"version {pointer.version} {reason}",
        metadata=champion_metadata(spec, pointer, manifest, decision, reason),
        tags={DATA_VERSION_TAG: pointer.manifest_sha256},
    )


def go_back(
    spec: ForecastSpec,
    registry: tracking.Registry,
    ledger: Ledger,
    actor: Actor,
    version: int | None,
    why: str,
    *,
    evidence_of: Callable[[Pointer, Pointer], RolledBack] | None = None,
    generation: int | None = None,
) -> tuple[Pointer, str]:
    """Serve an earlier version again, with MLflow's alias and the ledger.

    Args:
        version: None for the newest published one of an earlier training than the one that serves.
        evidence_of: the pointers before and after, for the ledger; by default these alone.
        generation: of the pointer that this was decided against; None for whatever serves now.

    Returns:
        the pointer after, and why it serves, for the asset's page.

    Raises:
        NotPublished, BundleError, LookupError: nothing was changed; the ledger has the reason.
    """
    try:
        before, after = publication.restore(
            spec.name,
            version,
            lambda one: registry.manifest_sha256(spec.name, one),
            generation=generation,
        )
    except Exception as error:
        ledger.enter(
            forecast=spec.name,
            actor=actor.name,
            decision=Decision.REFUSED,
            reason=str(error),
            evidence=RollbackRefused(asked=version or 0),
            run_id=actor.run_id,
        )
        raise
    evidence = evidence_of(before, after) if evidence_of else plain_evidence(before, after)
    ledger.enter(
        forecast=spec.name,
        actor=actor.name,
        decision=Decision.RESTORED,
        reason=f"version {after.version} serves again instead of {before.version}: {why}",
        evidence=evidence,
        run_id=actor.run_id,
    )
    return after, f"serves again instead of version {before.version}: {why}"


def plain_evidence(before: Pointer, after: Pointer) -> RolledBack:
    return RolledBack(before=before.version, after=after.version, generation=after.generation)


def watch_successor(
    spec: ForecastSpec,
    connection: "DuckDBPyConnection",
    registry: tracking.Registry,
    ledger: Ledger,
    actor: Actor,
    *,
    now: datetime | None = None,
    estimate: "Estimate | None" = None,
) -> WayBack:
    """Compare a new champion with the version before it, and roll back to that where the new one is worse.

    Args:
        connection: to the warehouse, whose feedback is up to date.
        now: with a zone; None for the clock.
        estimate: the label-free estimate, where it decides instead of outcomes.
    """
    from vroom_assets.monitoring import feedback

    def rows_of(found: "Succession") -> "pd.DataFrame":
        return feedback.read(
            connection,
            found.predecessor.manifest,
            versions=sorted(found.successors),
            with_outcome=estimate is None,
        )

    return act_on_successor(spec, rows_of, registry, ledger, actor, now=now, estimate=estimate)


def act_on_successor(
    spec: ForecastSpec,
    rows_of: "Rows",
    registry: tracking.Registry,
    ledger: Ledger,
    actor: Actor,
    *,
    now: datetime | None = None,
    estimate: "Estimate | None" = None,
) -> WayBack:
    """`watch_successor` of rows that are given, as `monitoring.shadow.watch_successor` takes them."""
    from vroom_assets.monitoring import shadow

    watched = shadow.watch_successor(spec, rows_of, now=now, estimate=estimate)
    if not watched.is_worse:
        return WayBack(watched, metadata=_metadata(watched))
    try:
        pointer, reason = go_back(
            spec,
            registry,
            ledger,
            actor,
            watched.predecessor,
            watched.sentence,
            evidence_of=lambda before, after: _evidence(watched, before, after),
            generation=watched.generation,
        )
    except (publication.NotPublished, BundleError, LookupError) as error:
        return WayBack(watched, refused=str(error), metadata=_metadata(watched) | {"refused": str(error)})
    registry.mark_champion(spec.name, pointer)
    _raise_alert(spec, watched)
    return WayBack(watched, pointer, [restored(spec, pointer, reason)], metadata=_metadata(watched))


def _evidence(watched: "SuccessorVerdict", before: Pointer, after: Pointer) -> RolledBackByItself:
    found = watched.numbers
    return RolledBackByItself(
        before=before.version,
        after=after.version,
        generation=after.generation,
        rows=int(found["rows"]),
        loss=found["loss"],
        predecessor_loss=found["predecessor_loss"],
        tolerated=found["tolerated"],
        log_evidence=found["log_evidence"],
        log_evidence_needed=found["log_evidence_needed"],
    )


def _raise_alert(spec: ForecastSpec, watched: "SuccessorVerdict") -> None:
    with serving_database() as engine:
        raise_alert(
            engine,
            forecast=spec.name,
            kind=ROLLED_BACK,
            severity=Severity.WARNING,
            message=(
                f"version {watched.predecessor} serves again, because version {watched.successor} was worse. "
                f"{watched.sentence}. Version {watched.successor} is not promoted again by itself; find out what it learnt "
                f"wrongly (python -m vroom_assets explain {spec.name}), or put it back with the job {spec.name}_rollback and "
                f"its number"
            ),
            evidence=dict(watched.numbers)
            | {"successor": watched.successor, "predecessor": watched.predecessor},
        )


def _metadata(watched: "SuccessorVerdict") -> dict[str, Any]:
    """For the page of the asset that watches."""
    return {
        "successor_state": watched.state.value,
        "successor_verdict": watched.sentence,
        **{f"successor_{name}": value for name, value in watched.numbers.items()},
    }


def rollback_job(spec: ForecastSpec) -> dg.JobDefinition:
    """Serve an earlier version again; what it replaces is not promoted again automatically."""

    @dg.op(
        name=f"roll_back_{spec.name}",
        description="`version` is the one to serve again (0: the one published before the one that serves); `reason` goes into the ledger.",
        required_resource_keys={"registry", "ledger"},
    )
    def roll_back(context: dg.OpExecutionContext, config: RollBack) -> None:
        registry, ledger = context.resources.registry, context.resources.ledger
        actor = Actor(context.run.tags.get(CALLER_TAG) or "job rollback", context.run.run_id)
        try:
            after, reason = go_back(
                spec,
                registry,
                ledger,
                actor,
                config.version or None,
                config.reason,
                generation=config.generation or None,
            )
        except Exception as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        if not registry.mark_champion(spec.name, after):
            context.log.warning(
                f"MLflow does not have version {after.version}; its alias `{CHAMPION}` names none"
            )
        with serving_database() as engine:  # somebody has decided what serves
            resolve_alert(engine, forecast=spec.name, kind=ROLLED_BACK)
        context.log.info(f"version {after.version} {reason}")
        context.log_event(restored(spec, after, reason))

    @dg.job(
        name=f"{spec.name}_rollback",
        tags={FORECAST_TAG: spec.name},
        description=(
            "Serve an earlier version again, after checking that it loads and scores. In the launchpad, `version` is "
            "its number, or 0 for the one published before the one that serves; `reason` goes into the ledger. What it "
            "replaces is not promoted again by itself, until somebody goes back to it with its number."
        ),
    )
    def rollback() -> None:
        roll_back()

    return rollback
