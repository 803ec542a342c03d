"""Entities that were saved over HTTP, in the next materialization: checked by the declared rules and stored with the others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vroom_api.contract.environment import stored_in_database
from vroom_api.contract.saved_entities import (
    open_entities,
    replace_sourced,
    settle,
    writing,
)
from vroom_api.contract.tables import serving_database
from vroom_assets.features import online
from vroom_assets.spec import ForecastSpec
from vroom_assets.sql import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")
AT_ONCE: Final = 500  # rows of one transaction: whoever else writes waits for no more than these
MAX_NAMED: Final = 5  # refused entities that a note names


@dataclass(frozen=True)
class Materialized:
    """What a materialization did."""

    count: int  # entities of the file
    saved: int = 0  # of them, those that were saved over HTTP
    new: int = 0  # of these, those that were not materialized before as they are
    closed: int = 0  # saved ones that the sources have now
    refused: dict[str, str] = field(default_factory=dict)  # id -> why it is not in the file
    digest: str = ""  # of the saved ones; empty where there are none
    note: str = ""  # for people


def materialize(connection: DuckDBPyConnection, spec: ForecastSpec) -> Materialized:
    """Store all entities, and enter in the serving database what became of the saved ones.

    The file is replaced first: from that moment the sources' own count. Where this ends in between, the next
    materialization enters the rest.

    Raises:
        DatasetError: the tables are not there, or the examples of now break their declaration.
    """
    with serving_database() as engine:
        with engine.connect() as reading:
            saved = open_entities(reading, spec.name)
        if spec.entity.source not in spec.sources:
            stored = online.store(connection, spec)
            note = (
                f"{len(saved)} saved: what a {spec.entity.name} is follows from its history, so each is predicted from "
                "what was saved of it and is not stored with those of the examples"
            )
            return _with_sourced(engine, spec, Materialized(stored.count, note=note if saved else ""))
        stored = online.store(connection, spec, saved)
        now, new = datetime.now(UTC), 0
        behind = {one.id for one in saved if not one.is_materialized}
        changes = [(one, revision) for one, revision in stored.saved.items() if one in behind]
        for part in _pieces(changes):
            with writing(engine) as transaction:
                new += settle(
                    transaction, spec.name, spec.entity.name, materialized=dict(part), sourced=[], now=now
                )
        for ids in _pieces(stored.in_sources):
            with writing(engine) as transaction:
                settle(transaction, spec.name, spec.entity.name, materialized={}, sourced=ids, now=now)
        done = Materialized(
            stored.count,
            len(stored.saved),
            new,
            len(stored.in_sources),
            stored.refused,
            _digest(stored.saved),
            _note(stored.refused),
        )
        return _with_sourced(engine, spec, done)


def _with_sourced(engine: Any, spec: ForecastSpec, done: Materialized) -> Materialized:
    """Where replicas share no disk, the entities of the sources are in the database too, all at once."""
    if stored_in_database():
        with writing(engine) as transaction:
            replace_sourced(transaction, spec.name, online.sourced(spec))
    return done


def _pieces(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))


def _digest(saved: dict[str, int]) -> str:
    content = "\n".join(f"{one}\t{revision}" for one, revision in sorted(saved.items()))
    return hashlib.sha256(content.encode()).hexdigest()[:12] if saved else ""


def _note(refused: dict[str, str]) -> str:
    if not refused:
        return ""
    named = "; ".join(f"{literal(one)}: {why}" for one, why in list(refused.items())[:MAX_NAMED])
    return f"{len(refused)} saved break the declaration as it is now and are left out, e.g. {named}; save them again"
