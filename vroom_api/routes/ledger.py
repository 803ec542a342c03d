"""GET /ledger: what was decided and why."""

from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import Parameter

from vroom_api.contract.tables import Database
from vroom_api.record.ledger import MAX_ENTRIES, Entries, read_ledger

PRINTABLE = r"^[^\x00-\x1f\x7f]+$"  # what a database takes as text


@get("/ledger", summary="What was decided and why, newest first", sync_to_thread=True)
def show_ledger(
    database: NamedDependency[Database],
    limit: Annotated[int, Parameter(ge=1, le=MAX_ENTRIES, description="entries of a page")] = 50,
    before: Annotated[
        int | None, Parameter(ge=1, le=2**63 - 1, description="only entries with a smaller id")
    ] = None,
    event: Annotated[
        str | None, Parameter(max_length=32, pattern=PRINTABLE, description="e.g. contest")
    ] = None,
    forecast: Annotated[
        str | None, Parameter(max_length=64, pattern=PRINTABLE, description="e.g. reservations")
    ] = None,
) -> Entries:
    return read_ledger(database, limit, before=before, event=event, forecast=forecast)


router = Router("/", route_handlers=[show_ledger])
