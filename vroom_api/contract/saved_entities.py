"""Entities in the serving database: those saved over HTTP, and those of the sources where replicas share no disk.

A saved entity is one row for ever: deleting closes it, saving it again opens it with the next revision. Service and
training read it in the state of the moment, so that a row means the same in every process.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from vroom_api.contract.event_log import Topic, append_event
from vroom_api.contract.tables import entities

SERVICE: Final = "service"  # saved over HTTP
CSV: Final = "csv"  # of the forecast's sources
BY_DELETION: Final = "delete"
BY_SOURCE: Final = CSV  # the source has an entity of this id now
MANY: Final = 100  # materialized at once that get an event each; of more there is one event with their number
AT_ONCE: Final = 2_000  # rows of one statement


class SavedEntity(msgspec.Struct, frozen=True):
    """A row of the table."""

    id: str
    source: str
    inputs: dict[str, Any]
    tags: dict[str, str]
    as_of: str
    revision: int
    caller: str
    created_at: datetime
    updated_at: datetime
    materialized_at: datetime | None
    materialized_revision: int | None
    observed: float | None
    closed_at: datetime | None
    closed_by: str | None

    @property
    def is_materialized(self) -> bool:
        """Whether the training has it as it is now."""
        return self.source == CSV or self.materialized_revision == self.revision


class SourcedEntity(NamedTuple):
    """An entity of the sources, as the training stores it."""

    id: str
    as_of: str
    inputs: dict[str, Any]
    tags: dict[str, str]
    observed: float | None


def entity_event(entity: str, change: str) -> str:
    """The name of an event about an entity, e.g. vehicle-saved."""
    return f"{re.sub(r'[^a-z0-9]+', '-', entity.lower()).strip('-')[:60] or 'entity'}-{change}"


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that reads before it writes: in SQLite it is the only writer from its start."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def entity_of(row: Any) -> SavedEntity:
    """An entity of a row of its table."""
    values = {name: getattr(row, name) for name in SavedEntity.__struct_fields__}
    return SavedEntity(**{name: _aware(value) for name, value in values.items()})


def saved_entity(
    connection: sa.Connection, forecast: str, identifier: str, *, lock: bool = False
) -> SavedEntity | None:
    """What was saved under an id, closed or not; None where nothing ever was.

    Args:
        lock: whether nobody else may change it until the transaction ends.
    """
    query = sa.select(entities).where(*_key(forecast, identifier))
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else entity_of(row)


def open_entities(connection: sa.Connection, forecast: str) -> list[SavedEntity]:
    """All saved entities of a forecast that are found, by id."""
    query = (
        sa.select(entities)
        .where(entities.c.forecast == forecast, entities.c.source == SERVICE, entities.c.closed_at.is_(None))
        .order_by(entities.c.id)
    )
    return [entity_of(row) for row in connection.execute(query)]


class Behind(msgspec.Struct, frozen=True):
    """Saved entities that the training does not have as they are now."""

    count: int
    digest: str  # another one whenever any of them changes


def behind(connection: sa.Connection, forecast: str) -> Behind:
    """What the next materialization has to take up."""
    columns = entities.c
    query = sa.select(sa.func.count(), sa.func.sum(columns.revision), sa.func.max(columns.updated_at)).where(
        columns.forecast == forecast,
        columns.source == SERVICE,
        columns.closed_at.is_(None),
        columns.materialized_revision.is_distinct_from(columns.revision),
    )
    count, revisions, latest = connection.execute(query).one()
    return Behind(count, f"{count}-{revisions or 0}-{latest:%Y%m%dT%H%M%S.%f}" if count else "")


def settle(
    connection: sa.Connection,
    forecast: str,
    entity: str,
    *,
    materialized: Mapping[str, int],
    sourced: Sequence[str],
    now: datetime | None = None,
) -> int:
    """Enter what a materialization did to saved entities, with its events, in a transaction that somebody else began.

    Args:
        entity: its declared name.
        materialized: id -> revision of those that are stored; one that has changed since stays behind.
        sourced: ids of those that the sources have now: their saved rows are closed.

    Returns:
        how many are materialized that were not.
    """
    now = now or datetime.now(UTC)
    new = [
        identifier
        for identifier, revision in materialized.items()
        if connection.execute(
            entities.update()
            .where(*_key(forecast, identifier), entities.c.revision == revision)
            .where(entities.c.closed_at.is_(None))
            .where(entities.c.materialized_revision.is_distinct_from(revision))
            .values(materialized_at=now, materialized_revision=revision)
        ).rowcount
    ]
    closed = [
        identifier
        for identifier in sourced
        if connection.execute(
            entities.update()
            .where(*_key(forecast, identifier), entities.c.closed_at.is_(None))
            .values(closed_at=now, closed_by=BY_SOURCE, materialized_at=now)
        ).rowcount
    ]
    name = entity_event(entity, "materialized")
    found = [(identifier, SERVICE) for identifier in new] + [(identifier, CSV) for identifier in closed]
    content: list[dict[str, Any]] = [{"id": identifier, "source": source} for identifier, source in found]
    for data in content if len(content) <= MANY else [{"count": len(content)}]:
        append_event(connection, forecast=forecast, topic=Topic.ENTITIES, name=name, data=data)
    return len(new)


def replace_sourced(connection: sa.Connection, forecast: str, rows: Iterable[SourcedEntity]) -> int:
    """Replace the entities of the sources, in a transaction that somebody else began: only what differs is written.

    Returns:
        how many rows were written or closed.
    """
    query = sa.select(
        *(entities.c[name] for name in ("id", "as_of", "inputs", "tags", "observed", "revision"))
    ).where(entities.c.forecast == forecast, entities.c.source == CSV)
    before = {row.id: row for row in connection.execute(query)}
    now = datetime.now(UTC)
    added: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for one in rows:
        row, values = before.pop(one.id, None), one._asdict()
        if row is not None and all(getattr(row, name) == value for name, value in values.items()):
            continue
        revision = 1 if row is None else row.revision + 1
        values |= {
            "revision": revision,
            "updated_at": now,
            "materialized_at": now,
            "materialized_revision": revision,
        }
        if row is None:
            added.append(
                values | {"forecast": forecast, "source": CSV, "caller": "online_features", "created_at": now}
            )
        else:
            values["of"] = values.pop("id")
            changed.append(values)
    for start in range(0, len(added), AT_ONCE):
        connection.execute(entities.insert(), added[start : start + AT_ONCE])
    if changed:
        same = entities.c.forecast == forecast, entities.c.source == CSV, entities.c.id == sa.bindparam("of")
        connection.execute(entities.update().where(*same), changed)
    gone = list(before)
    for start in range(0, len(gone), 500):  # parameters that every SQLite takes
        connection.execute(
            entities.delete().where(
                entities.c.forecast == forecast,
                entities.c.source == CSV,
                entities.c.id.in_(gone[start : start + 500]),
            )
        )
    return len(changed) + len(added) + len(gone)


def _key(forecast: str, identifier: str) -> tuple[sa.ColumnElement[bool], ...]:
    return entities.c.forecast == forecast, entities.c.id == identifier, entities.c.source == SERVICE


def _aware(value: Any) -> Any:
    """SQLite forgets the zone; what is written is UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
