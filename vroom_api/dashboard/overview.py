"""The service's page: what serves, and the newest decisions."""

from vroom_api.champion.descriptions import Health, Listed, health_of, parts_of
from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.loading import Champion
from vroom_api.champion.schemas import describe
from vroom_api.contract.tables import Database
from vroom_api.dashboard.pages import link, page, table, text
from vroom_api.predictions.refusals import allowed_of
from vroom_api.problems import Problem
from vroom_api.record.ledger import read_ledger

SHOWN_ENTRIES = 25  # on the page


def page_of(forecasts: Forecasts, database: Database, chosen: str | None = None) -> str:
    """The page that an operator opens first: is it well, what serves, what was decided.

    Args:
        chosen: the forecast that it is about; None for the flagship, and the decisions about all.

    Raises:
        Problem: there is no such forecast, 404.
    """
    shown = forecasts.flagship if chosen is None else forecasts.named(chosen)
    health, champion = health_of(shown), shown.champion
    try:
        entries = read_ledger(database, SHOWN_ENTRIES, forecast=chosen).entries
        decided = table(
            ("when (UTC)", "forecast", "event", "decision", "why", "who"),
            [
                (
                    f"{entry.time:%Y-%m-%d %H:%M:%S}",
                    entry.forecast,
                    entry.event,
                    entry.decision,
                    entry.reason,
                    entry.actor,
                )
                for entry in entries
            ],
            f"Nothing was decided yet; make run FORECAST={shown.forecast} begins.",
        )
    except Problem as problem:
        decided = f"<p>{text(problem.detail)}</p>"
    return page(
        "index.html",
        forecasts=_table_of(forecasts),
        forecast=text(shown.forecast),
        title=text(champion.manifest.title if champion else shown.forecast),
        path=f"/forecasts/{text(shown.forecast)}",
        status=health.status,
        status_text=text(_status_text(health)),
        champion=_champion_tables(champion) if champion else "",
        ledger=decided,
    )


def _table_of(forecasts: Forecasts) -> str:
    listed = [Listed(**parts_of(forecasts, watch)) for watch in forecasts]
    rows = [
        (
            link(f"/?forecast={one.name}", one.name),
            one.status,
            one.title or one.last_error or f"not published yet; make run FORECAST={one.name}",
            "" if one.model_version is None else one.model_version,
            one.data_as_of or "",
            one.freshness or "",
        )
        for one in listed
    ]
    return table(("forecast", "status", "title", "version", "data as of", "freshness"), rows)


def _status_text(health: Health) -> str:
    if health.status == "ok":
        return f"Version {health.model_version} serves."
    if health.status == "degraded":
        return f"Version {health.model_version} serves on. What was to follow it failed: {health.last_error}"
    if health.status == "loading":
        return "The champion is being loaded."
    why = f" {health.last_error}" if health.last_error else ""
    return (
        f"No champion serves yet; run make run FORECAST={health.forecast}, or materialize "
        f"{health.forecast}/champion in Dagster.{why}"
    )


def _champion_tables(champion: Champion) -> str:
    manifest = champion.manifest
    nested = {name: value for name, value in manifest.metrics.items() if name.startswith("nested_")}
    facts = [
        ("version", f"{manifest.version} (generation {champion.generation})"),
        ("forecasts", describe(manifest)),
        ("recipe", f"{manifest.recipe.name} on {', '.join(manifest.recipe.features)}"),
        ("trained", f"{manifest.trained_at} on {manifest.rows} rows"),
        ("data as of", manifest.data_as_of),
        ("published", champion.published_at),
        *((name.replace("_", " ", 1), f"{value:.4g}") for name, value in nested.items()),
        ("MLflow run", manifest.mlflow_run_id),
        ("Dagster run", manifest.dagster_run_id),
    ]
    inputs = [
        (
            field.name,
            field.type,
            allowed_of(field),
            field.description,
            field.shown(field.example),
        )
        for field in manifest.inputs
    ]
    worth = manifest.importances
    features = [
        (
            feature.name,
            feature.expression,
            feature.description,
            f"{worth[feature.name]:+.3g}" if worth.get(feature.name) else "",
        )
        for feature in sorted(manifest.features, key=lambda one: -worth.get(one.name, 0.0))
    ]
    return (
        table(("what", "value"), facts)
        + "<h2>Inputs</h2>"
        + table(("name", "type", "allowed", "meaning", "example"), inputs)
        + "<h2>Features</h2>"
        + table(("name", "SQL", "meaning", "error when shuffled"), features)
    )
