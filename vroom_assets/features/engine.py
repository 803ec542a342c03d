"""What executes the statements of examples and features: DuckDB, or an engine that takes its SQL and gives its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class StatementError(Exception):
    """A statement that an engine other than DuckDB cannot execute."""


class DataError(StatementError):
    """A value that a statement cannot compute with."""


class Rows(Protocol):
    """The result of a statement."""

    def fetchall(self) -> list[Any]:
        """Its rows, as tuples."""


class Tables(Protocol):
    """The part of a connection that examples and features use; a DuckDB connection has it.

    Checked tables are in the schema `main`, and `temp` has what statements create for a while.
    """

    def execute(self, statement: str, /) -> Rows:
        """Execute a statement in DuckDB's SQL."""


class Engine(Tables, Protocol):
    """Tables elsewhere than in the warehouse."""

    def hand_over(self, name: str, by: str, warehouse: DuckDBPyConnection) -> None:
        """Replace a table of the warehouse by the one of that name here, in order of a column, and drop it here."""
