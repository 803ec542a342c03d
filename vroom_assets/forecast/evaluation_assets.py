"""What windows of predictions and outcomes say about the version that serves, and what follows from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from vroom_api.contract import (
    BundleError,
    Manifest,
    manifest_of,
    read_pointer,
)
from vroom_api.contract.checks import Check, Status
from vroom_api.contract.tables import serving_database
from vroom_assets import resources, tracking
from vroom_assets.forecast.asset_pages import LISTED, PLOTTED, plot, table
from vroom_assets.forecast.names import key
from vroom_assets.forecast.rollback import Actor, watch_successor
from vroom_assets.forecast.trials import judge_trial
from vroom_assets.ledger import Ledger
from vroom_assets.spec import ForecastSpec

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

    from vroom_assets.monitoring.evaluation import Evaluation
    from vroom_assets.monitoring.feedback import Joined
    from vroom_assets.monitoring.summary import Summary

CAUGHT_UP = 40  # windows that closed before a run, each of which is judged as it would have been
# Which checks of the monitoring an asset check of Dagster's stands for: asset, name, and theirs.
CHECKS = (
    ("drift", "inputs", ("drift",), "Inputs, features and predictions are distributed as in training."),
    ("performance", "error", ("error", "bias"), "The error, and its mean, are those of training."),
    (
        "performance",
        "calibration",
        ("coverage", "calibration"),
        "Intervals and probabilities mean what they say.",
    ),
)


def evaluation_assets(spec: ForecastSpec) -> dg.AssetsDefinition:
    """One operation, three assets: how good the version that serves is, how its inputs moved, and the verdict."""
    health = key(spec, "health")
    of_windows = [key(spec, "performance"), key(spec, "drift")]

    @dg.multi_asset(
        name=f"{spec.name}_evaluation",
        specs=[
            dg.AssetSpec(
                of_windows[0],
                deps=[key(spec, "feedback")],
                description=(
                    f"Errors, bias, intervals and calibration by window of {spec.monitoring.window_minutes:g} minutes, "
                    "against those of training. Each closed window is summarized once, in `monitoring.summaries`."
                ),
            ),
            dg.AssetSpec(
                of_windows[1],
                deps=[key(spec, "feedback")],
                description="How features and predictions have moved away from training, and what that is estimated to cost.",
            ),
            dg.AssetSpec(
                health,
                deps=of_windows,
                description=(
                    "The verdict on the version that serves. Its checks are kept in the serving database, a verdict that is "
                    "another one than before is in the ledger, and what somebody has to know is an alert."
                ),
            ),
        ],
        check_specs=[
            *(
                dg.AssetCheckSpec(name, asset=key(spec, asset), description=text)
                for asset, name, _, text in CHECKS
            ),
            dg.AssetCheckSpec("verdict", asset=health, description="The version that serves is healthy."),
        ],
        pool=f"{spec.name}_warehouse",
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        warehouse: resources.Warehouse,
        registry: tracking.Registry,
        ledger: Ledger,
    ) -> Iterator[Any]:
        yield from evaluate(context, spec, warehouse, registry, ledger, datetime.now(UTC))

    return evaluation


@dataclass(frozen=True)
class _Judged:
    """What a run of the monitoring found. closed: windows, in this run. until: the end of the latest. found: all windows of the
    version that serves. evaluation: by all of them; earlier: by those until each window that closed before it in this run."""

    serving: Manifest
    closed: int
    until: datetime
    found: "Sequence[Summary]"
    evaluation: "Evaluation"
    earlier: "Sequence[Evaluation]"
    joined: "Joined"


def roll_back_or_correct(
    context: dg.AssetExecutionContext,
    spec: ForecastSpec,
    connection: "DuckDBPyConnection",
    registry: tracking.Registry,
    ledger: Ledger,
    now: datetime,
) -> dict[str, Any]:
    """Roll a champion back that is worse than the version before it; else correct its intervals where outcomes ask for it.

    Returns:
        what came of it, as metadata.
    """
    from vroom_assets.monitoring import revisions

    actor = Actor(f"job {context.run.job_name}", context.run.run_id)
    back = watch_successor(spec, connection, registry, ledger, actor, now=now)
    for event in back.events:
        context.log_event(event)
    context.log.info(back.watched.sentence)
    if back.restored is not None:
        return dict(back.metadata)
    found = revisions.follow_outcomes(spec, connection, actor=actor.name, run_id=actor.run_id)
    revision = {} if found.revision is None else {"calibration_revision": found.revision.number}
    return {**back.metadata, "calibration": found.proposal.sentence, **revision}


def evaluate(
    context: dg.AssetExecutionContext,
    spec: ForecastSpec,
    warehouse: resources.Warehouse,
    registry: tracking.Registry,
    ledger: Ledger,
    now: datetime,
) -> Iterator[Any]:
    """Summarize what has closed, judge what serves, and let follow what has to: the body of the three assets."""
    from vroom_assets.monitoring import consequences, progress

    with warehouse.connect(spec.name) as connection:
        judged = _judge(context, spec, connection, now)
        if judged is not None:
            followed = roll_back_or_correct(context, spec, connection, registry, ledger, now)
            actor = Actor(f"job {context.run.job_name}", context.run.run_id)
            followed |= judge_trial(spec, connection, actor, judged.until)
    if judged is None:
        yield from _without_champion(spec)
        return
    until = judged.until.isoformat()
    more = [check for one in judged.earlier for check in one.checks]
    if judged.found:
        more.append(_feedback_check(spec, judged))
    with serving_database() as database:
        run, serving = context.run, judged.serving
        changed = consequences.act(
            database, serving, judged.evaluation, more, until, f"job {run.job_name}", run.run_id
        )
        history = drift_history(database, spec.name, serving.version)
    progress.write(
        spec.name, progress.Progress(closed_until=judged.until.timestamp(), finished_at=now.timestamp())
    )
    context.log.info(
        f"{judged.closed} windows closed; {judged.evaluation.verdict.value}: {judged.evaluation.sentence}"
    )
    yield from _asset_checks(spec, judged.evaluation)
    yield _performance(spec, judged.evaluation, judged.found)
    yield _drift(spec, judged.evaluation, history)
    yield _health(spec, judged, followed | {"verdict_changed": changed})


def _judge(
    context: dg.AssetExecutionContext, spec: ForecastSpec, connection: "DuckDBPyConnection", now: datetime
) -> _Judged | None:
    """Summarize what has closed and judge what serves; None where nothing serves that can be read."""
    from vroom_assets.monitoring import closing, corrected, evaluation, feedback
    from vroom_assets.monitoring import warehouse as tables

    tables.prepare(connection)
    manifests = known_manifests(context, connection, spec)
    closed = closing.summarize_closed(connection, spec, manifests, now)
    pointer = read_pointer(spec.name)
    serving = None if pointer is None or pointer.retired is not None else manifests.get(pointer.version)
    if serving is None:
        return None
    kept = closing.summaries(connection, same_model(serving, manifests))
    found = corrected.judged_since(spec.name, serving, kept)
    ends = {window.end for window in closed[-CAUGHT_UP:]}
    return _Judged(
        serving=serving,
        closed=len(closed),
        until=tables.closed_until(connection).replace(tzinfo=UTC),
        found=found,
        evaluation=evaluation.evaluate(serving, spec.monitoring, found),
        earlier=[
            evaluation.evaluate(serving, spec.monitoring, found[: number + 1])
            for number, one in enumerate(found[:-1])
            if tables.naive(one.end) in ends
        ],
        joined=feedback.join(connection, spec, now),
    )


def _health(spec: ForecastSpec, judged: _Judged, more: dict[str, Any]) -> dg.MaterializeResult:
    one = judged.evaluation
    return dg.MaterializeResult(
        asset_key=key(spec, "health"),
        metadata={
            "verdict": one.verdict.value,
            "sentence": one.sentence,
            "harmful": one.harmful,
            "version": judged.serving.version,
            "window_end": judged.until.isoformat(),
            "windows": len(judged.found),
            "windows_closed_now": judged.closed,
            **({} if one.damage is None else {"damage": float(one.damage)}),
            **one.numbers,
            **more,
        },
    )


def known_manifests(
    context: dg.AssetExecutionContext, connection: "DuckDBPyConnection", spec: ForecastSpec
) -> dict[int, Manifest]:
    """Manifests of the versions that predicted anything and of the one that serves, as far as their bundles are there."""
    rows = connection.execute("select distinct version from monitoring.predictions").fetchall()
    pointer = read_pointer(spec.name)
    versions = {version for (version,) in rows} | ({pointer.version} if pointer else set())
    found = {}
    for version in sorted(versions):
        try:
            found[version] = manifest_of(spec.name, version)
        except BundleError as error:
            context.log.warning(
                f"predictions of version {version} are not judged, its manifest cannot be read: {error}"
            )
    return found


def same_model(serving: Manifest, manifests: dict[int, Manifest]) -> list[int]:
    """The version that serves, and those that are the same model with other texts."""
    return [version for version, one in manifests.items() if one.mlflow_run_id == serving.mlflow_run_id]


def _without_champion(spec: ForecastSpec) -> Iterator[Any]:
    text = "no champion serves, or its bundle cannot be read: there is nothing to judge"
    for asset, name, _, _ in CHECKS:
        yield dg.AssetCheckResult(asset_key=key(spec, asset), check_name=name, passed=True, description=text)
    yield dg.AssetCheckResult(
        asset_key=key(spec, "health"), check_name="verdict", passed=True, description=text
    )
    for asset in ("performance", "drift", "health"):
        yield dg.MaterializeResult(asset_key=key(spec, asset), metadata={"sentence": text})


def _feedback_check(spec: ForecastSpec, judged: _Judged) -> Check:
    """How many predictions are due, and how many have no outcome, beside the checks of the latest window."""
    latest, joined = judged.found[-1], judged.joined
    waiting = Status.UNKNOWN if not joined.outcomes else Status.WARNING
    return Check(
        forecast=spec.name,
        version=judged.serving.version,
        name="feedback",
        window_start=latest.start,
        window_end=latest.end,
        rows=joined.predictions,
        status=waiting if joined.overdue else Status.OK,
        values={
            name: float(getattr(joined, name))
            for name in ("due", "outcomes", "partial", "overdue", "unjoined")
        },
        message=joined.sentence,
    )


def _asset_checks(spec: ForecastSpec, judged: "Evaluation") -> Iterator[dg.AssetCheckResult]:
    """The findings as Dagster's own health and alerts see them."""
    for asset, name, own, _ in CHECKS:
        mine = [check for check in judged.checks if check.name in own]
        worst = [check for check in mine if check.status is Status.ALARM]
        doubtful = worst or [check for check in mine if check.status is Status.WARNING]
        texts = [": ".join(filter(None, (check.subject, check.message))) for check in doubtful]
        unknown = (
            "too few rows" if any(check.status is Status.UNKNOWN for check in mine) else "nothing to report"
        )
        yield dg.AssetCheckResult(
            asset_key=key(spec, asset),
            check_name=name,
            passed=not doubtful,
            severity=dg.AssetCheckSeverity.ERROR if worst else dg.AssetCheckSeverity.WARN,
            description="; ".join(texts) or unknown,
        )
    from vroom_assets.monitoring.evaluation import Verdict

    yield dg.AssetCheckResult(
        asset_key=key(spec, "health"),
        check_name="verdict",
        passed=judged.verdict in (Verdict.HEALTHY, Verdict.NOT_ENOUGH_DATA),
        severity=dg.AssetCheckSeverity.ERROR if judged.harmful else dg.AssetCheckSeverity.WARN,
        description=f"{judged.verdict.value}: {judged.sentence}",
    )


def _performance(
    spec: ForecastSpec, judged: "Evaluation", found: "Sequence[Summary]"
) -> dg.MaterializeResult:
    frame = by_window(found)
    numbers = {
        name: value
        for name, value in judged.numbers.items()
        if not name.startswith(("largest_", "estimate", "blind"))
    }
    lines = frame.set_index("window")[["error", "bias"]].dropna(how="all")
    return dg.MaterializeResult(
        asset_key=key(spec, "performance"),
        metadata={
            "windows": len(found),
            **numbers,
            "checks": _check_table(judged, ("error", "bias", "coverage", "calibration")),
            "latest_windows": table(frame.tail(LISTED).round(4)),
            **plot("over_time", lines, "Error and bias by window", "as the target"),
        },
    )


def by_window(found: "Sequence[Summary]") -> "pd.DataFrame":
    """Rows, error and bias (mean of prediction - outcome) of the latest windows, of those outcomes that arrived in each."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "window": one.end.replace(tzinfo=None),
                "predictions": one.predicted,
                "outcomes": one.observed,
                "partial": one.partial,
                "error": one.sums.get("loss", 0.0) / one.observed if one.observed else None,
                "bias": -one.sums.get("residual", 0.0) / one.observed if one.observed else None,
            }
            for one in found[-PLOTTED:]
        ],
        columns=["window", "predictions", "outcomes", "partial", "error", "bias"],
    ).astype({"error": float, "bias": float})


def _drift(spec: ForecastSpec, judged: "Evaluation", history: "pd.DataFrame") -> dg.MaterializeResult:
    numbers = {
        name: value
        for name, value in judged.numbers.items()
        if name.startswith(("largest_", "estimate", "blind", "predictions"))
    }
    return dg.MaterializeResult(
        asset_key=key(spec, "drift"),
        metadata={
            **numbers,
            "checks": _check_table(judged, ("drift", "estimate")),
            **plot("over_time", history, "Distance from training", "Jensen-Shannon distance"),
        },
    )


def drift_history(database: Any, forecast: str, version: int) -> "pd.DataFrame":
    """Distance of each feature by window, as the checks have it, those that moved furthest first."""
    import pandas as pd
    import sqlalchemy as sa

    from vroom_api.contract.tables import checks

    query = (
        sa.select(checks.c.window_end, checks.c.subject, checks.c["values"])
        .where(checks.c.forecast == forecast, checks.c.version == version, checks.c.name == "drift")
        .order_by(checks.c.window_end.desc())
        .limit(PLOTTED * 12)
    )
    with database.connect() as connection:
        rows = [(end, subject, values.get("value")) for end, subject, values in connection.execute(query)]
    frame = pd.DataFrame(rows, columns=["window", "feature", "distance"])
    if frame.empty:
        return frame.set_index("window")[[]]
    wide = frame.pivot_table(index="window", columns="feature", values="distance", aggfunc="last")
    return wide[wide.iloc[-1].sort_values(ascending=False).index]


def _check_table(judged: "Evaluation", names: Sequence[str]) -> dg.MetadataValue:
    import pandas as pd

    rows = [
        {
            "check": one.name,
            "of": one.subject,
            "status": one.status.value,
            "rows": one.rows,
            "found": one.message,
        }
        for one in judged.checks
        if one.name in names
    ]
    return table(pd.DataFrame(rows, columns=["check", "of", "status", "rows", "found"]))
