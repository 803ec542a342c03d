"""Empty serving databases of both kinds."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.needs import skip_or_fail
from vroom_api.contract.tables import open_database

KINDS = ("sqlite", "postgres")
POSTGRES = os.environ.get("VROOM_TEST_POSTGRES_URL") or "postgresql+psycopg://root@127.0.0.1:5432/test"


@contextmanager
def empty(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database without tables: a file in the folder, or a schema of its own in Postgres."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'serving.db'}"
        return
    server = sa.create_engine(POSTGRES, connect_args={"connect_timeout": 3})
    schema = f"test_{uuid.uuid4().hex}"
    try:
        with server.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    except (sa.exc.OperationalError, ModuleNotFoundError) as error:
        skip_or_fail(f"no Postgres at {server.url!r}: {str(error).splitlines()[0]}")
    url = server.url.update_query_dict({"options": f"-csearch_path={schema}", "application_name": schema})
    yield url.render_as_string(hide_password=False)
    with server.begin() as connection:
        # What a service still has open would be waited for, or wait for the end of this.
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"),
            {"name": schema},
        )
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    server.dispose()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, once of each kind; a module takes it as `url = databases.url`."""
    with empty(request.param, tmp_path) as address:
        yield address


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    """That database with its tables; for modules that take `url` too."""
    opened = open_database(url)
    yield opened
    opened.dispose()
