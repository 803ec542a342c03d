"""The revisions of the serving database's tables, by Alembic. At the newest one nobody imports this.

After a change of `tables`: `alembic revision --autogenerate --rev-id 0002 -m "what changed"`, where the
database is at the newest revision; read what it wrote under `versions`, and put its id into `tables.VERSION`.
"""

import threading

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from vroom_api.contract.tables import UnusableDatabase, exclusive, version_of

# By the package's name: a path could hold what Alembic takes for something else.
SCRIPTS = "vroom_api.contract:migrations"
# Alembic keeps what it works on in its modules: two threads with two databases would make each other's tables.
_ONE_AT_A_TIME = threading.Lock()


def upgrade(engine: sa.Engine) -> None:
    """Bring the tables to the newest revision, all or nothing; one process at a time.

    Raises:
        UnusableDatabase: a newer Vroom made the tables, or they are not Vroom's.
    """
    with _ONE_AT_A_TIME, exclusive(engine) as connection:
        config = config_of(connection)
        revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
        version = version_of(connection)
        if version is not None and version not in revisions:
            raise UnusableDatabase(
                f"the tables of {engine.url!r} have version {version!r}, and this version of Vroom supports "
                f"them up to {revisions[0]!r}: a newer version upgraded them, and nothing was changed. Start the newer "
                f"version, or run its `alembic downgrade {revisions[0]}` before starting this one"
            )
        command.upgrade(config, "head")


def config_of(connection: sa.Connection) -> Config:
    """What Alembic's commands need to work on a connection, in the transaction that is open on it."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    return config
