"""`litestar keys`: make, list and revoke API keys from the command line of the service's machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import sqlalchemy as sa

from vroom_api.contract.environment import BadSetting
from vroom_api.contract.permissions import keep_private
from vroom_api.contract.tables import UnusableDatabase, open_database
from vroom_api.security.keys import BadKey, Role, create_key, list_keys, revoke_key
from vroom_api.settings import Settings


@click.group("keys")
def keys_group() -> None:
    """API keys of the service, in the database that VROOM_DATABASE_URL or VROOM_HOME names."""


@keys_group.command("create")
@click.option("--name", required=True, help="who holds the key; recorded with each prediction")
@click.option(
    "--role",
    type=click.Choice([role.name.lower() for role in Role]),
    default="viewer",
    show_default=True,
    help="viewer: predict and read; operator: also report outcomes and reload; admin: also revoke keys",
)
@click.option("--days", type=float, default=None, help="until it expires; never, if not given")
def create(name: str, role: str, days: float | None) -> None:
    """Make a key and print it, once."""
    with _database() as database:
        key = create_key(database, name, Role[role.upper()], days)
    click.echo(f"{key}", nl=True)
    click.echo(f"This is the only time the key of {name!r} is shown.", err=True)


@keys_group.command("list")
def show() -> None:
    """List all keys, without their secrets."""
    with _database() as database:
        found = list_keys(database)
    if not found:
        click.echo("There are no keys; `litestar keys create --name ...` makes one.")
        return
    click.echo(f"{'id':14}{'role':10}{'state':9}{'expires (UTC)':18}{'last used (UTC)':18}name")
    for key in found:
        expires, used = (
            f"{moment:%Y-%m-%d %H:%M}" if moment else "never" for moment in (key.expires_at, key.last_used_at)
        )
        click.echo(f"{key.id:14}{key.role:10}{key.state:9}{expires:18}{used:18}{key.name}")


@keys_group.command("revoke")
@click.argument("name_or_id")
def revoke(name_or_id: str) -> None:
    """Revoke a key by its name or id, for ever."""
    with _database() as database:
        key = revoke_key(database, name_or_id)
    click.echo(f"The key of {key.name!r} is revoked; a running service refuses it within seconds.")


@contextmanager
def _database() -> Iterator[sa.Engine]:
    try:
        settings = Settings.read()
        keep_private(settings.home, settings.umask)
        engine = open_database(settings.database_url)
        try:
            yield engine
        finally:
            engine.dispose()
    except (BadKey, BadSetting, UnusableDatabase) as error:
        raise click.ClickException(str(error)) from None
    except sa.exc.DBAPIError as error:
        raise click.ClickException(
            f"the serving database does not answer ({type(error.orig).__name__}); VROOM_DATABASE_URL names it"
        ) from None
