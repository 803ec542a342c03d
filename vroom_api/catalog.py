"""What serves, how it is, and what was decided: /model, /health, /reload, /forecasts, /ledger and the page at /."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
from litestar import MediaType, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter, PathParameter, QueryParameter

from vroom_api.champion import Champion, ChampionWatch, Reload, said_of
from vroom_api.contract import FeatureField, InputField, Recipe
from vroom_api.forecasts import Forecasts
from vroom_api.freshness import Verdict, ages
from vroom_api.keys import Role
from vroom_api.pages import link, page, table, text
from vroom_api.predict import serving
from vroom_api.problems import Problem, documented
from vroom_api.refusals import allowed_of
from vroom_api.security import needs
from vroom_api.tables import ledger

log = logging.getLogger(__name__)

MOST_ENTRIES = 500
SHOWN_ENTRIES = 25  # on the page
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"  # what a database takes as text


Status = Literal["ok", "loading", "no_champion", "degraded"]


class Model(msgspec.Struct, frozen=True):
    """The version that serves: what it is, what it takes, how good it is and where it comes from."""

    forecast: str
    title: str
    version: int
    generation: int
    published_at: str
    loaded_at: str
    entity: str
    target: str
    unit: str
    horizon: str
    inputs: list[InputField]
    features: list[FeatureField]
    recipe: Recipe
    metrics: dict[str, float]
    importances: dict[str, float]
    coverage: dict[str, float]
    rows: int
    target_mean: float
    trained_at: str
    data_as_of: str
    data_version: str
    snapshots: dict[str, str]
    code_version: str
    mlflow_run_id: str
    dagster_run_id: str
    libraries: dict[str, str]
    manifest_sha256: str


class Health(msgspec.Struct, frozen=True):
    """Whether predictions are answered, and by what."""

    status: Status
    forecast: str
    model_version: int | None
    generation: int | None
    last_error: str | None
    last_error_at: str | None


class Listed(msgspec.Struct, frozen=True):
    """A forecast: what it says, how it is and where to ask it. What its champion tells is null without one."""

    name: str
    flagship: bool  # whether the short routes are about it
    status: Status
    title: str | None
    kind: Literal["count", "regression", "binary"] | None
    entity: str | None
    target: str | None
    unit: str | None
    horizon: str | None
    model_version: int | None
    data_as_of: str | None
    freshness: Verdict | None
    last_error: str | None
    links: dict[str, str]  # paths, by what they are for


class Forecast(Listed, frozen=True):
    """A forecast with what it takes, an example of it, and the version that serves."""

    inputs: list[InputField]
    example: dict[str, float | str | None]  # a body of its /predict
    champion: Model | None


class Entry(msgspec.Struct, frozen=True):
    """One decision of the ledger."""

    id: int
    time: datetime
    forecast: str
    actor: str
    event: str
    decision: str
    reason: str
    evidence: dict[str, Any]
    run_id: str | None


class Entries(msgspec.Struct, frozen=True):
    """A page of the ledger, newest first; `next_before` asks for the page after it, null at the end."""

    entries: list[Entry]
    next_before: int | None


Database = Callable[[], sa.Engine]
Name = Annotated[str, PathParameter(description="of the forecast")]
_no_such_forecast = documented("there is no forecast of that name")


def catalog_routes(forecasts: Forecasts, database: Database) -> list[HTTPRouteHandler]:
    @get("/model", summary="The version that serves", sync_to_thread=False)
    def show_model() -> Model:
        return model_of(serving(forecasts.flagship))

    @get("/health", summary="Whether predictions are answered; always 200", sync_to_thread=False)
    def show_health() -> Health:
        return health_of(forecasts.flagship)

    @post(
        "/reload",
        summary="Load what the pointer names, now",
        status_code=200,
        guards=[needs(Role.OPERATOR)],
    )
    async def reload() -> Reload:
        return await forecasts.flagship.reload()

    @get("/forecasts", summary="Every forecast, the one of the short routes first", sync_to_thread=False)
    def list_forecasts() -> list[Listed]:
        return [Listed(**parts_of(forecasts, watch)) for watch in forecasts]

    @get(
        "/forecasts/{name:str}",
        summary="A forecast: its inputs, its champion, and where to ask it",
        responses={404: _no_such_forecast},
        sync_to_thread=False,
    )
    def show_forecast(name: Name) -> Forecast:
        return forecast_of(forecasts, forecasts.named(name))

    @get(
        "/forecasts/{name:str}/health",
        summary="Whether a forecast's predictions are answered",
        responses={404: _no_such_forecast},
        sync_to_thread=False,
    )
    def show_health_of(name: Name) -> Health:
        return health_of(forecasts.named(name))

    @post(
        "/forecasts/{name:str}/reload",
        summary="Load what a forecast's pointer names, now; also one that was published just before",
        status_code=200,
        responses={404: _no_such_forecast},
        guards=[needs(Role.OPERATOR)],
    )
    async def reload_of(name: Name) -> Reload:
        await forecasts.look()
        return await forecasts.named(name).reload()

    @get("/ledger", summary="What was decided and why, newest first", sync_to_thread=True)
    def show_ledger(
        limit: Annotated[int, Parameter(ge=1, le=MOST_ENTRIES, description="entries of a page")] = 50,
        before: Annotated[
            int | None, Parameter(ge=1, le=2**63 - 1, description="only entries with a smaller id")
        ] = None,
        event: Annotated[
            str | None, Parameter(max_length=32, pattern=_PRINTABLE, description="e.g. contest")
        ] = None,
        forecast: Annotated[
            str | None, Parameter(max_length=64, pattern=_PRINTABLE, description="e.g. reservations")
        ] = None,
    ) -> Entries:
        return read_ledger(database, limit, before=before, event=event, forecast=forecast)

    @get("/", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=True)
    def show_page(forecast: Annotated[str | None, QueryParameter()] = None) -> Response[str]:
        return Response(page_of(forecasts, database, forecast), media_type=MediaType.HTML)

    return [
        show_model,
        show_health,
        reload,
        list_forecasts,
        show_forecast,
        show_health_of,
        reload_of,
        show_ledger,
        show_page,
    ]


def parts_of(forecasts: Forecasts, watch: ChampionWatch) -> dict[str, Any]:
    """The fields of `Listed`."""
    champion, path = watch.champion, f"/forecasts/{watch.forecast}"
    manifest = champion.manifest if champion else None
    told = ("title", "kind", "entity", "target", "unit", "horizon", "data_as_of")
    return {
        "name": watch.forecast,
        "flagship": watch is forecasts.flagship,
        "status": health_of(watch).status,
        **{name: getattr(manifest, name, None) for name in told},
        "model_version": manifest.version if manifest else None,
        "freshness": ages(manifest, datetime.now(UTC)).freshness if manifest else None,
        "last_error": watch.failure,
        "links": {
            "self": path,
            "health": f"{path}/health",
            "predict": f"{path}/predict",
            "predict_batch": f"{path}/predict/batch",
            **{f"advise_{name}": f"{path}/advise/{name}" for name in (manifest.advice if manifest else {})},
        },
    }


def forecast_of(forecasts: Forecasts, watch: ChampionWatch) -> Forecast:
    champion = watch.champion
    return Forecast(
        **parts_of(forecasts, watch),
        inputs=champion.manifest.inputs if champion else [],
        example=champion.manifest.example if champion else {},
        champion=model_of(champion) if champion else None,
    )


def model_of(champion: Champion) -> Model:
    manifest = champion.manifest
    shared = {name: getattr(manifest, name) for name in Model.__struct_fields__ if hasattr(manifest, name)}
    return Model(
        **shared,
        generation=champion.generation,
        published_at=champion.published_at,
        loaded_at=champion.loaded_at,
        coverage=manifest.calibration.coverage,
        manifest_sha256=champion.manifest_sha256,
    )


def health_of(watch: ChampionWatch) -> Health:
    champion = watch.champion
    status: Status
    if champion is None:
        status = "loading" if watch.loading else "no_champion"
    else:
        status = "degraded" if watch.failure else "ok"
    return Health(
        status=status,
        forecast=watch.forecast,
        model_version=champion.version if champion else None,
        generation=champion.generation if champion else None,
        last_error=watch.failure,
        last_error_at=watch.failed_at,
    )


def read_ledger(
    database: Database,
    limit: int,
    *,
    before: int | None = None,
    event: str | None = None,
    forecast: str | None = None,
) -> Entries:
    """A page of the ledger.

    Raises:
        Problem: the database cannot be reached, 503.
    """
    query = sa.select(ledger).order_by(ledger.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(ledger.c.id < before)
    if event is not None:
        query = query.where(ledger.c.event == event)
    if forecast is not None:
        query = query.where(ledger.c.forecast == forecast)
    try:
        with database().connect() as connection:
            rows = connection.execute(query).mappings().all()
    except (sa.exc.DBAPIError, OSError) as error:
        # The driver's own words may name hosts and users: they are for the log.
        log.warning("the serving database does not answer: %s", getattr(error, "orig", None) or error)
        raise Problem(
            503,
            "no-database",
            "the serving database does not answer; the service's log says why, VROOM_DATABASE_URL names it",
            headers={"retry-after": "10"},
        ) from error
    entries = [Entry(**{**row, "time": _aware(row["time"])}) for row in rows[:limit]]
    return Entries(entries, entries[-1].id if len(rows) > limit else None)


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
        ("forecasts", said_of(manifest)),
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


def _aware(time: datetime) -> datetime:
    """SQLite forgets the zone; what is written is UTC."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)
