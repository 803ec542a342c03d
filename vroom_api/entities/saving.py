"""Entities over HTTP: what a caller sends of one, checked by the champion's own rules, and saved or deleted once."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.dialects import postgresql, sqlite

from vroom_api.champion.loading import Champion
from vroom_api.champion.schemas import EXACT_INTEGER
from vroom_api.contract import InputField, Manifest
from vroom_api.contract.event_log import Topic, append_event
from vroom_api.contract.saved_entities import (
    BY_DELETION,
    SERVICE,
    SavedEntity,
    entity_event,
    saved_entity,
    writing,
)
from vroom_api.contract.tables import entities
from vroom_api.contract.times import text_of
from vroom_api.json_bodies import malformed, without_mark
from vroom_api.predictions.refusals import faults, sent_twice
from vroom_api.problems import Fault, Problem
from vroom_api.record.prediction import MAX_TEXT_LENGTH, fits, new_id

RESERVED: Final = ("features", "events", ".", "..")  # parts of paths that mean something else
ID: Final = "entity_id"
_NAMESPACE: Final = uuid.UUID("5b0d7a0e-6f0a-4f57-8a43-0d1f6f6d3c52")
_ALLOWED_ID: Final = (
    f"a whole number or 1..{MAX_TEXT_LENGTH} characters without control characters and slashes"
)
Status = Literal["created", "replaced", "unchanged"]


class GivenEntity(NamedTuple):
    """What a caller sends of an entity."""

    id: str | None
    inputs: dict[str, Any]  # all of the champion's, as they are stored
    tags: dict[str, str]


def key_of(manifest: Manifest) -> str:
    """The name under which callers may give the id, beside `entity_id`."""
    key = manifest.entity_key or f"{manifest.entity}_id"
    taken = key in (field.name for field in manifest.inputs)
    return ID if taken or not key.isidentifier() else key


def content_of(body: bytes) -> dict[str, Any]:
    """The object that a body is.

    Raises:
        Problem: 400 for a body that is not JSON, 422 for one that is not an object or has a name twice.
    """
    body = without_mark(body)
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error) from None
    if not isinstance(content, dict):
        raise _invalid([Fault("", "a JSON object is expected")])
    if twice := sent_twice(body):
        raise _invalid(twice)
    return content


def take_id(content: dict[str, Any], names: Sequence[str]) -> str | None:
    """Take the id out of an object; None where it has none.

    Args:
        names: under which it may be.

    Raises:
        Problem: it is not an id, or there are two, 422.
    """
    found = {name: _text_of(content.pop(name)) for name in dict.fromkeys(names) if name in content}
    for name, text in found.items():
        if text is None:
            detail = f"{name}: it is not {_ALLOWED_ID}"
            raise _invalid([Fault(name, detail, _ALLOWED_ID)])
    texts = set(found.values())
    if len(texts) > 1:
        raise _invalid([Fault(ID, f"{' and '.join(found)}: they are different; send one")])
    return texts.pop() if texts else None


def _text_of(value: Any) -> str | None:
    """An id as it is stored, None for what is not one. As JSON Schema has it, 7.0 is a whole number too."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT_INTEGER:
        value = int(value)
    if isinstance(value, str):
        return value if fits(value) else None
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= EXACT_INTEGER
    return str(value) if is_number else None


def given_entity(champion: Champion, content: dict[str, Any]) -> GivenEntity:
    """An entity with all of its inputs, by the rules of a request for a prediction.

    Raises:
        Problem: 422, with all faults.
    """
    manifest = champion.manifest
    key = key_of(manifest)
    identifier = take_id(content, (ID, key))
    if identifier is not None and ("/" in identifier or identifier in RESERVED):
        detail = f"{key}: {identifier!r} cannot stand in a path; it is {_ALLOWED_ID}, and none of {', '.join(RESERVED)}"
        raise _invalid([Fault(key, detail, _ALLOWED_ID)])
    if found := faults(manifest, content, options=("tags",)):
        unknown = [fault for fault in found if fault.field in (ID, key)]
        raise _invalid(unknown or found)
    inputs = {field.name: _stored(field, content.get(field.name)) for field in manifest.inputs}
    return GivenEntity(identifier, inputs, content.get("tags") or {})


def _stored(field: InputField, value: Any) -> Any:
    """A value that was checked, always written in the same way."""
    if value is None:
        return None
    if field.type == "time":
        return text_of(field.encoded(value))
    return int(value) if field.type == "integer" else value


def _invalid(found: list[Fault]) -> Problem:
    return Problem(422, "invalid-input", "; ".join(fault.detail for fault in found), faults=found)


def _is_same(before: SavedEntity, given: GivenEntity) -> bool:
    """Whether it is saved as it is given."""
    return before.closed_at is None and (before.inputs, before.tags) == (given.inputs, given.tags)


def unknown_entity(entity: str, identifier: str, path: str, closed: SavedEntity | None = None) -> Problem:
    """There is no such entity: what to do."""
    why = "nothing is stored of it"
    if closed is not None and closed.closed_by == BY_DELETION:
        why = f"it was deleted at {closed.updated_at:%Y-%m-%dT%H:%M:%SZ}"
    return Problem(
        404,
        "unknown-entity",
        f"there is no {entity} {identifier[:64]!r}: {why}; POST {path} saves one, GET {path} lists all",
    )


def of_source(manifest: Manifest | None, entity: str, identifier: str) -> Problem:
    """An entity that is not for callers to change."""
    source = (manifest and manifest.entity_source) or "the sources of its forecast"
    return Problem(
        409,
        "from-source",
        f"{entity} {identifier[:64]!r} is from {source}: change it there, and the next materialization follows",
    )


class Saving:
    """Changes to the saved entities of one forecast, each with its event in the same transaction.

    Args:
        entity: its declared name.
        path: of the entities, for remedies.
    """

    def __init__(self, engine: sa.Engine, forecast: str, entity: str, caller: str, path: str) -> None:
        self._engine = engine
        self._forecast = forecast
        self._entity = entity
        self._caller = caller
        self._path = path

    def create(self, given: GivenEntity, idempotency_key: str | None = None) -> tuple[SavedEntity, Status]:
        """Save an entity under its id, or under a new one. To do so again changes nothing.

        Args:
            idempotency_key: of the caller's, by which a repetition without an id is recognized.

        Raises:
            Problem: another one is saved under that id, 409.
        """
        identifier = given.id or (self._id_of(idempotency_key) if idempotency_key else new_id())
        with self._engine.connect() as connection:
            before = saved_entity(connection, self._forecast, identifier)
        if before is not None and _is_same(before, given):
            return before, "unchanged"  # and nobody waits for a lock
        with writing(self._engine) as connection:
            before = saved_entity(connection, self._forecast, identifier, lock=True)
            if before is None:
                fresh = self._row(identifier, given, 1)
                if self._insert(connection, fresh):
                    self._append(connection, "saved", fresh.id, fresh.revision)
                    return fresh, "created"
                before = saved_entity(connection, self._forecast, identifier, lock=True)
                assert before is not None  # another transaction was first
            if _is_same(before, given):
                return before, "unchanged"
            if before.closed_at is None:
                raise self._exists(identifier)
            if given.id is None:
                raise Problem(
                    409,
                    "deleted",
                    f"{self._entity} {identifier!r}, which this Idempotency-Key made, was deleted; send another key",
                )
            return self._write(connection, before, given), "created"

    def replace(self, identifier: str, given: GivenEntity) -> tuple[SavedEntity, Status]:
        """Replace what is saved of an entity.

        Raises:
            Problem: none is saved under that id, 404.
        """
        with writing(self._engine) as connection:
            before = self._open(connection, identifier)
            if _is_same(before, given):
                return before, "unchanged"
            return self._write(connection, before, given), "replaced"

    def delete(self, identifier: str) -> SavedEntity:
        """Delete an entity: from the end of this transaction on it is found nowhere.

        Raises:
            Problem: none is saved under that id, 404.
        """
        with writing(self._engine) as connection:
            before = self._open(connection, identifier)
            now = datetime.now(UTC)
            closed = replace(
                before,
                revision=before.revision + 1,
                caller=self._caller,
                updated_at=now,
                closed_at=now,
                closed_by=BY_DELETION,
            )
            self._update(connection, closed)
            self._append(connection, "deleted", identifier, closed.revision)
            return closed

    def _open(self, connection: sa.Connection, identifier: str) -> SavedEntity:
        found = saved_entity(connection, self._forecast, identifier, lock=True)
        if found is None or found.closed_at is not None:
            raise unknown_entity(self._entity, identifier, self._path, found)
        return found

    def _write(self, connection: sa.Connection, before: SavedEntity, given: GivenEntity) -> SavedEntity:
        found = replace(
            self._row(before.id, given, before.revision + 1),
            created_at=before.created_at,
            materialized_at=before.materialized_at,
            materialized_revision=before.materialized_revision,
        )
        self._update(connection, found)
        self._append(connection, "saved", found.id, found.revision)
        return found

    def _row(self, identifier: str, given: GivenEntity, revision: int) -> SavedEntity:
        now = datetime.now(UTC)
        return SavedEntity(
            id=identifier,
            source=SERVICE,
            inputs=given.inputs,
            tags=given.tags,
            as_of=now.isoformat(timespec="seconds"),
            revision=revision,
            caller=self._caller,
            created_at=now,
            updated_at=now,
            materialized_at=None,
            materialized_revision=None,
            observed=None,
            closed_at=None,
            closed_by=None,
        )

    def _insert(self, connection: sa.Connection, row: SavedEntity) -> bool:
        """Whether nobody else was first."""
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        values = {"forecast": self._forecast} | msgspec.structs.asdict(row)
        statement = insert(entities).values(values).on_conflict_do_nothing().returning(entities.c.id)
        return connection.execute(statement).first() is not None

    def _update(self, connection: sa.Connection, row: SavedEntity) -> None:
        values = msgspec.structs.asdict(row)
        connection.execute(
            entities.update()
            .where(
                entities.c.forecast == self._forecast,
                entities.c.id == row.id,
                entities.c.source == SERVICE,
            )
            .values({name: value for name, value in values.items() if name not in ("id", "source")})
        )

    def _append(self, connection: sa.Connection, change: str, identifier: str, revision: int) -> None:
        append_event(
            connection,
            forecast=self._forecast,
            topic=Topic.ENTITIES,
            name=entity_event(self._entity, change),
            data={"id": identifier, "source": SERVICE, "revision": revision},
        )

    def _id_of(self, idempotency_key: str) -> str:
        """The same id for the same key of the same caller."""
        return str(uuid.uuid5(_NAMESPACE, "\0".join((self._forecast, self._caller, idempotency_key))))

    def _exists(self, identifier: str) -> Problem:
        return Problem(
            409,
            "exists",
            f"{self._entity} {identifier!r} is saved with other inputs or tags; PUT {self._path}/{identifier} replaces it",
        )
