"""Inputs that are stored in the serving database, looked up by the id of their entity.

A lookup reads what is committed now. In SQLite it takes some tens of microseconds, by a connection of the pool: that
is given back where the file was replaced.
"""

from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract.saved_entities import CSV, SERVICE
from vroom_api.contract.tables import Database, entities


class SavedRow(msgspec.Struct, frozen=True):
    """What the table has of an entity."""

    source: str
    as_of: str
    inputs: dict[str, Any]
    tags: dict[str, str]
    closed_by: str | None


_COLUMNS = tuple(SavedRow.__struct_fields__)
_FIND = f"SELECT {', '.join(_COLUMNS)} FROM entities WHERE forecast = ? AND id = ?"


class SavedInputs:
    """The saved entities of one forecast, and those of its sources where the table has them."""

    def __init__(self, forecast: str, database: Database) -> None:
        self._forecast = forecast
        self._database = database

    def find(self, entity_id: str, *, sourced: bool) -> SavedRow | None:
        """The row of an entity; one of the sources goes before a saved one, and a closed one is reported as such.

        Args:
            sourced: whether those of the sources count.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, UnusableDatabase: the database cannot be read.
        """
        engine = self._database()
        rows = self._in_sqlite(engine, entity_id) if engine.dialect.name == "sqlite" else None
        if rows is None:
            query = sa.select(*(entities.c[name] for name in _COLUMNS)).where(
                entities.c.forecast == self._forecast, entities.c.id == entity_id
            )
            with engine.connect() as connection:
                rows = [SavedRow(*row) for row in connection.execute(query)]
        by_source = {row.source: row for row in rows}
        return (by_source.get(CSV) if sourced else None) or by_source.get(SERVICE)

    def _in_sqlite(self, engine: sa.Engine, entity_id: str) -> list[SavedRow]:
        """Without SQLAlchemy's statements, which take several times as long."""
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(_FIND, (self._forecast, entity_id))
            found = cursor.fetchall()
            cursor.close()
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.DBAPIError.instance(_FIND, None, error, engine.dialect.loaded_dbapi.Error) from error
        finally:
            connection.close()
        return [
            SavedRow(source, as_of, msgspec.json.decode(inputs), msgspec.json.decode(tags), closed_by)
            for source, as_of, inputs, tags, closed_by in found
        ]

    def any_open(self) -> bool:
        """Whether any entity is found here.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, UnusableDatabase: the database cannot be read.
        """
        query = (
            sa.select(entities.c.id)
            .where(entities.c.forecast == self._forecast, entities.c.closed_at.is_(None))
            .limit(1)
        )
        with self._database().connect() as connection:
            return connection.execute(query).first() is not None
