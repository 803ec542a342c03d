"""Alembic runs this for every command, in a connection that it was given or in one of its own."""

import sqlalchemy as sa
from alembic import context

from vroom_api.contract.tables import VERSION_TABLE, connect, exclusive, metadata


def migrate(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        # Others keep tables in the same Postgres database, MLflow for one.
        include_name=lambda name, kind, _: kind != "table" or name in metadata.tables,
        render_as_batch=connection.dialect.name == "sqlite",  # which changes a column by copying its table
        transactional_ddl=True,  # SQLite's too: `exclusive` begins the transaction itself
    )
    context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with exclusive(connect()) as own:
        migrate(own)
