"""All entities of a forecast in one order, from both stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace

from vroom_api.champion.stored_inputs import Entities, LayeredInputs, NotReadable
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract import Manifest
from vroom_api.contract.saved_entities import CSV, SERVICE, SavedEntity
from vroom_api.contract.tables import Database
from vroom_api.entities import table_rows
from vroom_api.entities.file_rows import FileRow, FileRows
from vroom_api.entities.rows import EntityPage, EntityRow, StorePage, answer_of, observed_of, row_of
from vroom_api.entities.search import Search
from vroom_api.problems import Problem

ATTEMPTS: Final = 3  # at a page while the file is replaced


class Catalog:
    """The entities of one forecast, as they are now. Safe in threads.

    Of an id that the sources have and that was saved as well, that of the sources counts.
    """

    def __init__(self, watch: ChampionWatch, database: Database) -> None:
        self.forecast = watch.forecast
        self.manifest: Manifest | None = watch.champion.manifest if watch.champion else None
        inputs = watch.entities
        self.waits = inputs.waits  # whether a server is asked
        self._file = inputs.file if isinstance(inputs, LayeredInputs) else Entities(self.forecast, watch.root)
        self._database = database
        self._fleet = watch.fleet

    def find(self, identifier: str) -> EntityRow | None:
        """An entity, None where there is none of that id."""
        found = self._stored(identifier)
        return None if found is None else self._with_predictions([found], with_reasons=True)[0]

    def _stored(self, identifier: str) -> EntityRow | None:
        found = self.sourced(identifier)
        if found is not None:
            return found
        with self._database().connect() as connection:
            saved = table_rows.find(connection, self.forecast, identifier, sourced=self._file is None)
        if saved is not None:
            return row_of(saved, self.manifest)
        return self.sourced(
            identifier
        )  # the file may have been replaced in between, and the saved row closed

    def sourced(self, identifier: str) -> EntityRow | None:
        """An entity of the sources, None where they have none of that id."""
        if self._file is None:
            with self._database().connect() as connection:
                found = table_rows.find(connection, self.forecast, identifier, sourced=True)
            return row_of(found, self.manifest) if found is not None and found.source == CSV else None
        with self._rows(self._file) as rows:
            row = None if rows is None else rows.find(identifier)
        return None if row is None else self._row_of(row)

    def page(self, search: Search, after: str | None, limit: int) -> EntityPage:
        """A page of up to `limit` entities behind an id; of none too, where none of those scanned meets all conditions.

        An entity that is there all the time is on one page of all, and on one only, whatever changes meanwhile.
        """
        for _ in range(ATTEMPTS):
            file = self._file
            before = None if file is None else file.state
            page = self._page(search, after, limit)
            if file is None or file.state == before:
                break  # else what went from the table to the file meanwhile may have been in neither
        return replace(page, entities=self._with_predictions(page.entities))

    def _page(self, search: Search, after: str | None, limit: int) -> EntityPage:
        sourced: StorePage[FileRow] = StorePage([], None)
        saved: StorePage[SavedEntity] = StorePage([], None)
        total = 0
        # A server would go through all rows to count them.
        counts = search.is_for_all and after is None and self._file is not None
        if self._file is not None and search.source != SERVICE:
            with self._rows(self._file) as file:
                if file is not None:
                    sourced = file.page(search, after, limit + 1)
                    total += file.count() if counts else 0
        if self._file is None or search.source != CSV:
            saved = self._saved(search, after, limit + 1, sourced.end)
            total += self._count_saved() if counts else 0
        hidden = set(self._hidden([row.id for row in saved.rows if row.source == SERVICE]))
        rows = [row_of(row, self.manifest) for row in saved.rows if row.source == CSV or row.id not in hidden]
        rows += [self._row_of(row) for row in sourced.rows]
        # Behind the end of a store there may be more of it, in front of what the other one has.
        end = min((end for end in (sourced.end, saved.end) if end is not None), default=None)
        ordered = sorted((row for row in rows if end is None or row.id <= end), key=lambda row: row.id)
        last = ordered[limit - 1].id if len(ordered) > limit else end
        return EntityPage(ordered[:limit], last, total if counts else None)

    def _saved(
        self, search: Search, after: str | None, limit: int, end: str | None
    ) -> StorePage[SavedEntity]:
        with self._database().connect() as connection:
            return table_rows.page(
                connection, self.forecast, search, after, limit, end=end, sourced=self._file is None
            )

    def _count_saved(self) -> int:
        with self._database().connect() as connection:
            return table_rows.count(connection, self.forecast)

    def _hidden(self, identifiers: list[str]) -> list[str]:
        """Those of some saved ids that the sources have too: until the next materialization closes them."""
        if not identifiers:
            return []
        if self._file is None:
            with self._database().connect() as connection:
                return table_rows.among(connection, self.forecast, identifiers)
        with self._rows(self._file, may_fail=True) as file:
            return [] if file is None else file.among(identifiers)

    def _with_predictions(self, rows: list[EntityRow], *, with_reasons: bool = False) -> list[EntityRow]:
        """Rows with what the champion answered to each, where that is of what is stored now."""
        run = self._fleet.run()
        if run is None:
            return rows
        found = self._fleet.find([row.id for row in rows if row.materialized], with_reasons=with_reasons)
        return [
            replace(row, predicted=answer_of(run, answer, with_reasons=with_reasons))
            if (answer := found.get(row.id))
            else row
            for row in rows
        ]

    @contextmanager
    def _rows(self, file: Entities, may_fail: bool = False) -> Iterator[FileRows | None]:
        """The rows of the file, None where there is none.

        Args:
            may_fail: whether a damaged one counts as none.

        Raises:
            Problem: it is damaged, 503.
        """
        opened = False
        try:
            with file.opened() as connection:
                rows = None if connection is None else FileRows(connection)
                opened = True
                yield rows
        except NotReadable as error:
            if not may_fail or opened:
                raise Problem(503, "no-entities", str(error), headers={"retry-after": "10"}) from error
            yield None

    def _row_of(self, row: FileRow) -> EntityRow:
        manifest = self.manifest
        inputs = row.values if manifest is None else {field.name for field in manifest.inputs}
        return EntityRow(
            id=row.id,
            source=CSV,
            inputs={name: value for name, value in row.values.items() if name in inputs},
            tags={
                name: str(value)
                for name, value in row.values.items()
                if value is not None and (name not in inputs or (manifest and name in manifest.tags))
            },
            as_of=row.as_of,
            materialized=True,
            observed=observed_of(row.observed, manifest),
            revision=None,
            changed_at=None,
            materialized_at=None,
            predicted=None,
        )
