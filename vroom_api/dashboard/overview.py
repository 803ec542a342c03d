"""The service's page: what serves, and the newest decisions."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from vroom_api.champion.descriptions import Health, Listed, health_of, parts_of, tried_of
from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.loading import Champion
from vroom_api.champion.schemas import describe
from vroom_api.contract import FeatureField, InputField, Manifest, TrialRole
from vroom_api.contract.pages import Pages
from vroom_api.contract.tables import Database
from vroom_api.dashboard.pages import page
from vroom_api.predictions.refusals import allowed_of
from vroom_api.problems import Problem
from vroom_api.record.alerts import Alert, Wanted, list_alerts
from vroom_api.record.ledger import Entry, read_ledger, reading
from vroom_api.record.monitoring import latest_verdict

ENTRIES_ON_PAGE = 25
ALERTS_ON_PAGE = 50


class ListedRow(msgspec.Struct, frozen=True):
    """A forecast among all of them."""

    name: str
    status: str
    title: str
    version: str
    data_as_of: str
    freshness: str


class Fact(msgspec.Struct, frozen=True):
    """Something about the champion."""

    name: str
    value: str
    link: str | None = None


class InputRow(msgspec.Struct, frozen=True):
    name: str
    type: str
    allowed: str
    meaning: str
    example: str


class FeatureRow(msgspec.Struct, frozen=True):
    name: str
    expression: str
    meaning: str
    importance: str


class ChampionView(msgspec.Struct, frozen=True):
    """What serves."""

    facts: list[Fact]
    inputs: list[InputRow]
    features: list[FeatureRow]


class Decision(msgspec.Struct, frozen=True):
    """A line of the ledger."""

    time: str
    forecast: str
    event: str
    decision: str
    reason: str
    actor: str


class AlertRow(msgspec.Struct, frozen=True):
    """An open alert."""

    since: str
    severity: str
    forecast: str
    kind: str
    message: str
    acknowledged_by: str


class Overview(msgspec.Struct, frozen=True):
    """What overview.html lays out."""

    forecast: str
    title: str
    status: str
    status_text: str
    provisional: str  # the gates that the champion has not passed
    verdict: str  # of the monitoring, and why; "" before the first window has closed
    alerts: list[AlertRow]
    forecasts: list[ListedRow]
    champion: ChampionView | None
    decisions: list[Decision]
    without_decisions: str  # displayed where there are none


def page_of(forecasts: Forecasts, database: Database, pages: Pages, chosen: str | None = None) -> str:
    """The page that an operator opens first: is it well, what serves, what was decided.

    Args:
        chosen: the forecast that it is about; None for the flagship, and the decisions about all.

    Raises:
        Problem: there is no such forecast, 404.
    """
    displayed = forecasts.flagship if chosen is None else forecasts.named(chosen)
    health, champion = health_of(displayed), displayed.champion
    without = f"Nothing was decided yet; make run FORECAST={displayed.forecast} trains a champion."
    entries: list[Entry] = []
    watched = Watched()
    try:
        watched = _watched(database, displayed.forecast, chosen)
        entries = read_ledger(database, ENTRIES_ON_PAGE, forecast=chosen).entries
    except Problem as problem:
        without = problem.detail
    overview = Overview(
        forecast=displayed.forecast,
        title=champion.manifest.title if champion else displayed.forecast,
        status=health.status,
        status_text=_status_text(health),
        provisional="; ".join(champion.provisional) if champion else "",
        verdict=watched.verdict,
        alerts=[_alert(one) for one in watched.alerts],
        forecasts=[_listed(Listed(**parts_of(forecasts, watch)), watch.champion) for watch in forecasts],
        champion=_champion(champion, pages) if champion else None,
        decisions=[_decision(entry) for entry in entries],
        without_decisions=without,
    )
    return page("overview.html", overview)


class Watched(NamedTuple):
    """What the monitoring says."""

    verdict: str = ""
    alerts: Sequence[Alert] = ()


def _watched(database: Database, forecast: str, chosen: str | None) -> Watched:
    """The verdict on a forecast, and the open alerts of it where it was chosen, else of all.

    Raises:
        Problem: the database cannot be reached, 503.
    """
    with reading(database) as connection:
        found = latest_verdict(connection, forecast)
        page = list_alerts(connection, Wanted(forecast=chosen), ALERTS_ON_PAGE)
    return Watched(f"{found.verdict}: {found.sentence}" if found else "", page.alerts)


def _alert(alert: Alert) -> AlertRow:
    return AlertRow(
        since=f"{alert.first_seen:%Y-%m-%d %H:%M:%S}",
        severity=alert.severity,
        forecast=alert.forecast,
        kind=" ".join(filter(None, (alert.kind.replace("_", " "), alert.subject))),
        message=alert.message,
        acknowledged_by=alert.acknowledged_by or "",
    )


def _listed(one: Listed, champion: Champion | None) -> ListedRow:
    return ListedRow(
        name=one.name,
        status=one.status,
        title=one.title or one.last_error or f"not published yet; make run FORECAST={one.name}",
        version="" if one.model_version is None else str(one.model_version),
        data_as_of=one.data_as_of or "",
        freshness=_freshness(one, champion.manifest) if champion else "",
    )


def _freshness(one: Listed, manifest: Manifest) -> str:
    """The verdict, and on what: what has no limits is never stale, however old it is."""
    if one.freshness == "unlimited":
        return "no limit is declared"
    judged = [name for name in ("model", "data") if getattr(manifest.freshness, name) is not None]
    return f"{one.freshness} ({' and '.join(judged)})"


def _status_text(health: Health) -> str:
    if health.status == "ok":
        return f"Version {health.model_version} serves."
    if health.status == "degraded":
        return f"Version {health.model_version} keeps serving. A newer version is not on its way: {health.last_error}"
    if health.status == "retired":
        return f"No version serves any more: {health.last_error}"
    if health.status == "loading":
        return "The champion is being loaded."
    if health.last_error:
        return (
            f"No champion serves yet: {health.last_error}. Correct that, and the next training publishes one."
        )
    return (
        f"No champion serves yet; run make run FORECAST={health.forecast}, or materialize "
        f"{health.forecast}/champion in Dagster."
    )


def _champion(champion: Champion, pages: Pages) -> ChampionView:
    manifest = champion.manifest
    worth = manifest.importances
    ranked = sorted(manifest.features, key=lambda one: -worth.get(one.name, 0.0))
    return ChampionView(
        facts=_facts(manifest, champion, pages),
        inputs=[_input(field) for field in manifest.inputs],
        features=[_feature(feature, worth.get(feature.name, 0.0)) for feature in ranked],
    )


def _facts(manifest: Manifest, champion: Champion, pages: Pages) -> list[Fact]:
    nested = {name: value for name, value in manifest.metrics.items() if name.startswith("nested_")}
    return [
        Fact("version", f"{manifest.version} (generation {champion.generation})"),
        Fact("forecasts", describe(manifest)),
        Fact("recipe", f"{manifest.recipe.name} on {', '.join(manifest.recipe.features)}"),
        Fact("trained", f"{manifest.trained_at} on {manifest.rows} rows"),
        Fact("data as of", manifest.data_as_of),
        Fact("published", champion.published_at),
        *_trial(champion),
        *(Fact(name.replace("_", " ", 1), f"{value:.4g}") for name, value in nested.items()),
        Fact("MLflow run", manifest.mlflow_run_id, pages.mlflow_version(manifest.forecast, manifest.version)),
        Fact("Dagster run", manifest.dagster_run_id, pages.dagster_run(manifest.dagster_run_id)),
    ]


def _trial(champion: Champion) -> list[Fact]:
    """The version that is tried beside it."""
    tried = tried_of(champion)
    if tried is None:
        return []
    does = "answers" if tried.role is TrialRole.SPLIT else "gets a copy of"
    text = f"version {tried.version} {does} {100 * tried.share:.3g} % of the requests since {tried.since}, by {tried.by}"
    return [Fact("tried beside it", text)]


def _input(field: InputField) -> InputRow:
    return InputRow(
        field.name, field.type, allowed_of(field), field.description, str(field.formatted(field.example))
    )


def _feature(feature: FeatureField, importance: float) -> FeatureRow:
    return FeatureRow(
        feature.name, feature.expression, feature.description, f"{importance:+.3g}" if importance else ""
    )


def _decision(entry: Entry) -> Decision:
    return Decision(
        time=f"{entry.time:%Y-%m-%d %H:%M:%S}",
        forecast=entry.forecast,
        event=entry.event,
        decision=entry.decision,
        reason=entry.reason,
        actor=entry.actor,
    )
