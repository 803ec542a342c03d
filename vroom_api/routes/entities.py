"""Stored entities over HTTP, of the flagship and of every forecast by its name: saved, listed, deleted, predicted."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Final, TypeVar

from litestar import HttpMethod, MediaType, Request, Response, Router, delete, get, post, put, route
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter, PathParameter, QueryParameter, RawBody

from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract.tables import Database
from vroom_api.entities.features import features_of
from vroom_api.entities.listing import Catalog
from vroom_api.entities.predicting import request_by_id
from vroom_api.entities.rows import (
    DeletedRow,
    EntityFeatures,
    EntityPage,
    EntityRow,
    FeaturePage,
    SavedRow,
    Source,
    row_of,
)
from vroom_api.entities.saving import Saving, content_of, given_entity, of_source, unknown_entity
from vroom_api.entities.search import Search, conditions_of
from vroom_api.problems import Fault, Problem
from vroom_api.record.prediction import MAX_TEXT_LENGTH, caller_of
from vroom_api.routes.parameters import Tag
from vroom_api.routes.predictions import Predictor, read_body, serving
from vroom_api.routes.problems import RECORD_HANDLERS, RECORD_UNAVAILABLE, documented
from vroom_api.routes.routers import PathRouter
from vroom_api.security.guards import needs
from vroom_api.security.keys import Role
from vroom_api.texts import NO_CONTROL_CHARACTERS

MAX_ENTITIES: Final = 1_000  # of a page
QUICK_PAGE: Final = 100  # entities that are read in about a millisecond
SHORT: Final = "/vehicles"  # the entities of the flagship
# Few, for more would only wait for each other, and keep predictions waiting; of writers SQLite has one in any case.
_readers = ThreadPoolExecutor(2, thread_name_prefix="catalog")
_writer = ThreadPoolExecutor(1, thread_name_prefix="saving")
T = TypeVar("T")
NO_SUCH_ENTITY: Final = documented("nothing is stored of an entity of that id")
IN_SOURCE: Final = documented("the entity is from the sources, and is changed there")

Name = Annotated[str, PathParameter(description="of the forecast")]
Id = Annotated[
    str,
    PathParameter(
        pattern=NO_CONTROL_CHARACTERS,
        max_length=MAX_TEXT_LENGTH,
        description="id of the entity, a number or a text",
    ),
]
After = Annotated[
    str | None,
    QueryParameter(
        pattern=NO_CONTROL_CHARACTERS,
        max_length=MAX_TEXT_LENGTH,
        description="only those behind this id: `next_after` of a page",
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_ENTITIES, description="entities of a page")]
OfSource = Annotated[
    Source | None, QueryParameter(description="csv: those of the sources; service: those saved here")
]
Prefix = Annotated[
    str | None,
    QueryParameter(
        pattern=NO_CONTROL_CHARACTERS, max_length=MAX_TEXT_LENGTH, description="how the id begins"
    ),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        pattern=NO_CONTROL_CHARACTERS,
        max_length=MAX_TEXT_LENGTH,
        description="of the caller's own: a repetition with the same key makes no second entity",
    ),
]
Where = Annotated[
    str | None,
    QueryParameter(
        pattern=NO_CONTROL_CHARACTERS,
        max_length=1_000,
        description="conditions on inputs, e.g. technology:1,actual_price:40..60",
    ),
]


class EntityRequest:
    """The entities that a request is about: of which forecast, and under which path."""

    def __init__(
        self, watch: ChampionWatch, database: Database, request: Request[Any, Any, Any], path: str
    ) -> None:
        self.watch = watch
        self.path = path
        self.catalog = Catalog(watch, database)
        self._database = database
        self._request = request

    @property
    def entity(self) -> str:
        manifest = self.catalog.manifest
        return manifest.entity if manifest else "entity"

    async def read(self, work: Callable[[], T], *, quick: bool = False) -> T:
        """The result of reading.

        Args:
            quick: whether it takes less than the change to another thread costs everybody, if no server is asked.
        """
        if quick and not self.catalog.waits:
            return work()
        return await asyncio.get_running_loop().run_in_executor(_readers, work)

    async def write(self, work: Callable[[], T]) -> T:
        """The result of changing something."""
        return await asyncio.get_running_loop().run_in_executor(_writer, work)

    def save(self, body: bytes, idempotency_key: str | None) -> SavedRow:
        given = given_entity(serving(self.watch), content_of(body))
        if given.id is not None and self.catalog.sourced(given.id) is not None:
            raise of_source(self.catalog.manifest, self.entity, given.id)
        return self._saved(*self._saving().create(given, idempotency_key))

    def replace(self, identifier: str, body: bytes) -> SavedRow:
        given = given_entity(serving(self.watch), content_of(body))
        if given.id not in (None, identifier):
            detail = f"the id of the body is {given.id!r}, that of the path {identifier!r}; send one of them"
            raise Problem(422, "invalid-input", detail, faults=[Fault("entity_id", detail)])
        self._refuse_sourced(identifier)
        return self._saved(*self._saving().replace(identifier, given))

    def delete(self, identifier: str) -> DeletedRow:
        self._refuse_sourced(identifier)
        closed = self._saving().delete(identifier)
        return DeletedRow(identifier, "deleted", closed.revision, closed.updated_at)

    def find(self, identifier: str) -> EntityRow:
        found = self.catalog.find(identifier)
        if found is None:
            raise unknown_entity(self.entity, identifier, self.path)
        return found

    def features(self, identifier: str) -> EntityFeatures:
        champion = serving(self.watch)
        return features_of(champion, [self.find(identifier)])[0]

    def feature_page(self, search: Search, after: str | None, limit: int) -> FeaturePage:
        champion = serving(self.watch)
        page = self.catalog.page(search, after, limit)
        return FeaturePage(features_of(champion, page.entities), page.next_after)

    def _refuse_sourced(self, identifier: str) -> None:
        if self.catalog.sourced(identifier) is not None:
            raise of_source(self.catalog.manifest, self.entity, identifier)

    def _saving(self) -> Saving:
        caller = caller_of(self._request.scope)
        return Saving(self._database(), self.watch.forecast, self.entity, caller, self.path)

    def _saved(self, saved: Any, status: Any) -> SavedRow:
        row = row_of(saved, self.catalog.manifest)
        return SavedRow(**{name: getattr(row, name) for name in EntityRow.__struct_fields__}, status=status)


def of_flagship(
    request: Request[Any, Any, Any],
    forecasts: NamedDependency[Forecasts],
    database: NamedDependency[Database],
) -> EntityRequest:
    return EntityRequest(forecasts.flagship, database, request, SHORT)


def of_named(
    name: Name,
    request: Request[Any, Any, Any],
    forecasts: NamedDependency[Forecasts],
    database: NamedDependency[Database],
) -> EntityRequest:
    """The entities of a forecast.

    Raises:
        Problem: there is none of that name, 404.
    """
    watch = forecasts.named(name)
    return EntityRequest(watch, database, request, f"/forecasts/{watch.forecast}/entities")


def searched(
    asked: NamedDependency[EntityRequest],
    source: OfSource = None,
    prefix: Prefix = None,
    where: Where = None,
    tag: Tag = None,
) -> Search:
    """What a request searches for.

    Raises:
        Problem: 400 for what is not a condition on an input, 503 where nobody knows the inputs.
    """
    name, _, text = (tag or "").partition(":")
    conditions = conditions_of(serving(asked.watch).manifest, where) if where is not None else ()
    return Search(source, prefix or "", conditions, (name, text) if tag else None)


@get(
    "/",
    operation_id="vehicles",
    summary="All that is stored, by id: those of the sources and those that were saved",
    description=(
        "A page in the byte order of the ids. `where` has conditions on inputs, separated by commas: `technology:1`, "
        "`actual_price:40..60` (either end may be left out), a text with a comma in quotes. A page ends after so many "
        "ids, found or not: go on until `next_after` is null."
    ),
    responses={503: RECORD_UNAVAILABLE},
    dependencies={"search": Provide(searched, sync_to_thread=False)},
)
async def list_entities(
    asked: NamedDependency[EntityRequest],
    search: NamedDependency[Search],
    after: After = None,
    limit: Limit = 100,
) -> EntityPage:
    quick = limit <= QUICK_PAGE and search.is_quick
    return await asked.read(lambda: asked.catalog.page(search, after, limit), quick=quick)


@post(
    "/",
    operation_id="saveVehicle",
    summary="Save one; from then on it is predicted by its id alone",
    description=(
        "The inputs of /predict, all of them, and maybe an id and `tags`. It is found at once in every process, and is "
        "part of the next materialization. To save the same again changes nothing (200, `unchanged`); without an id a "
        "new one is made, the same for the same `Idempotency-Key`."
    ),
    responses={
        200: ResponseSpec(SavedRow, description="the same was saved before"),
        400: documented("the body is not JSON"),
        409: documented("another one has that id; PUT replaces it, and one of the sources is changed there"),
        422: documented("a field is unknown, missing or outside its range"),
        503: documented("no champion serves that knows the inputs, or the database does not answer"),
    },
    guards=[needs(Role.OPERATOR)],
)
async def save_entity(
    asked: NamedDependency[EntityRequest], body: RawBody, idempotency_key: IdempotencyKey = None
) -> Response[SavedRow]:
    saved = await asked.write(lambda: asked.save(body, idempotency_key))
    return Response(saved, status_code=201 if saved.status == "created" else 200)


@get(
    "/features",
    operation_id="features",
    summary="The features of all, computed by the champion from what is stored, page by page",
    responses={503: documented("no champion serves, or the database does not answer")},
    dependencies={"search": Provide(searched, sync_to_thread=False)},
)
async def list_features(
    asked: NamedDependency[EntityRequest],
    search: NamedDependency[Search],
    after: After = None,
    limit: Limit = 100,
) -> FeaturePage:
    quick = limit <= QUICK_PAGE and search.is_quick
    return await asked.read(lambda: asked.feature_page(search, after, limit), quick=quick)


@get(
    "/{identifier:str}",
    operation_id="vehicle",
    summary="What is stored of one",
    responses={404: NO_SUCH_ENTITY, 503: RECORD_UNAVAILABLE},
)
async def show_entity(identifier: Id, asked: NamedDependency[EntityRequest]) -> EntityRow:
    return await asked.read(lambda: asked.find(identifier), quick=True)


@put(
    "/{identifier:str}",
    operation_id="replaceVehicle",
    summary="Replace what was saved of one",
    responses={
        400: documented("the body is not JSON"),
        404: NO_SUCH_ENTITY,
        409: IN_SOURCE,
        422: documented("a field is unknown, missing or outside its range"),
        503: documented("no champion serves that knows the inputs, or the database does not answer"),
    },
    guards=[needs(Role.OPERATOR)],
)
async def replace_entity(identifier: Id, asked: NamedDependency[EntityRequest], body: RawBody) -> SavedRow:
    return await asked.write(lambda: asked.replace(identifier, body))


@delete(
    "/{identifier:str}",
    operation_id="deleteVehicle",
    summary="Delete one that was saved; it is not predicted any more, in any process",
    status_code=200,
    responses={404: NO_SUCH_ENTITY, 409: IN_SOURCE, 503: RECORD_UNAVAILABLE},
    guards=[needs(Role.OPERATOR)],
)
async def delete_entity(identifier: Id, asked: NamedDependency[EntityRequest]) -> DeletedRow:
    return await asked.write(lambda: asked.delete(identifier))


@get(
    "/{identifier:str}/features",
    operation_id="featuresOfVehicle",
    summary="The features of one, computed by the champion from what is stored",
    responses={404: NO_SUCH_ENTITY, 503: documented("no champion serves, or the database does not answer")},
)
async def show_features(identifier: Id, asked: NamedDependency[EntityRequest]) -> EntityFeatures:
    return await asked.read(lambda: asked.features(identifier), quick=True)


# Of a path with several handlers Litestar's own answer to OPTIONS names the method of the first one alone.
@route("/", http_method=HttpMethod.OPTIONS, include_in_schema=False, sync_to_thread=False)
def allow_on_all() -> Response[None]:
    return _allow("GET, OPTIONS, POST")


@route("/{identifier:str}", http_method=HttpMethod.OPTIONS, include_in_schema=False, sync_to_thread=False)
def allow_on_one(identifier: Id) -> Response[None]:
    return _allow("DELETE, GET, OPTIONS, PUT")


def _allow(methods: str) -> Response[None]:
    return Response(None, status_code=204, headers={"allow": methods})


# What a body of these may hold the champion knows, and so does the OpenAPI document that is made from it.
@post("/predict/id", status_code=200, include_in_schema=False)
async def predict_by_id(
    request: Request[Any, Any, Any], predictor: NamedDependency[Predictor]
) -> Response[bytes]:
    return await _predict(predictor.forecasts.flagship, request, predictor, SHORT)


@post("/forecasts/{name:str}/predict/id", status_code=200, include_in_schema=False)
async def predict_by_id_of(
    name: FromPath[str], request: Request[Any, Any, Any], predictor: NamedDependency[Predictor]
) -> Response[bytes]:
    watch = predictor.forecasts.named(name)
    return await _predict(watch, request, predictor, f"/forecasts/{watch.forecast}/entities")


async def _predict(
    watch: ChampionWatch, request: Request[Any, Any, Any], predictor: Predictor, path: str
) -> Response[bytes]:
    """Answer as /predict answers a body that names the entity and nothing else of it.

    Raises:
        Problem: nothing is stored of the entity, 404, and all that /predict refuses.
    """
    body = await read_body(request.scope, request.receive, predictor.largest_body)
    champion = serving(watch)
    identifier, meant = request_by_id(champion, body)
    try:
        answer = await predictor.answer(watch, request.scope, meant)
    except Problem as problem:
        if problem.cause != "unknown-entity":
            raise
        raise unknown_entity(champion.manifest.entity, identifier, path) from None
    return Response(answer, media_type=MediaType.JSON)


HANDLERS: Any = [
    allow_on_all,
    allow_on_one,
    list_entities,
    save_entity,
    list_features,
    show_entity,
    replace_entity,
    delete_entity,
    show_features,
]
router = PathRouter(
    SHORT,
    route_handlers=HANDLERS,
    dependencies={"asked": Provide(of_flagship, sync_to_thread=False)},
    exception_handlers=RECORD_HANDLERS,
    tags=["catalog"],
)
# The document describes those of each forecast by itself.
named_router = PathRouter(
    "/forecasts/{name:str}/entities",
    route_handlers=HANDLERS,
    dependencies={"asked": Provide(of_named, sync_to_thread=False)},
    exception_handlers=RECORD_HANDLERS,
    include_in_schema=False,
)
predict_router = Router("/", route_handlers=[predict_by_id, predict_by_id_of])
