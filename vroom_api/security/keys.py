"""API keys: who may ask what.

A key is `vroom_<id>_<secret>`. The database holds its SHA-256 and never the key: with 256 random bits in
the secret there is nothing to guess, so no slow hash is needed and a key is checked in a microsecond.
"""

import asyncio
import contextlib
import enum
import hashlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from vroom_api.contract import durable
from vroom_api.contract.decoding import convert
from vroom_api.contract.tables import UnusableDatabase, exclusive, keys

log = logging.getLogger(__name__)

LONGEST_NAME = 64
FIRST_ADMIN = "first admin"
_UNKNOWN_LOOKUPS_PER_SECOND = 10.0  # a second
_USE_WRITTEN_EVERY = 30.0  # seconds; the time of last use is not worth a write at every request


class Role(enum.IntEnum):
    """What a key may do; each role may do all that the ones before it may."""

    VIEWER = 1  # predict and read
    OPERATOR = 2  # and tell outcomes, and reload
    ADMIN = 3  # and see and revoke keys


class BadKey(ValueError):
    """A key that cannot be made or revoked; the message says why."""


class Key(msgspec.Struct, frozen=True):
    """A key without its secret."""

    id: str
    name: str
    role: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @property
    def state(self) -> str:
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= datetime.now(UTC):
            return "expired"
        return "active"


def create_key(
    database: sa.Engine, name: str, role: Role, days: float | None = None, *, connection: Any = None
) -> str:
    """Make a key and return it; nobody can read it again later.

    Args:
        name: who holds it, unique for ever: records of predictions name it.
        days: until it expires, None for never.

    Raises:
        BadKey: there is a key of that name already, or name or days are not usable.
    """
    if not (1 <= len(name) <= LONGEST_NAME and name.isprintable() and name.strip() == name):
        raise BadKey(f"name: use 1 to {LONGEST_NAME} printable characters, not {name!r}")
    if "/" in name or name in (".", ".."):
        raise BadKey(
            f"name: {name!r} cannot stand in the path of /keys/<name>/revoke; use one without a slash"
        )
    if days is not None and not 0 < days <= 36_500:
        raise BadKey(f"days: use a number above 0 and up to 36500, not {days:g}")
    identifier = secrets.token_hex(6)
    key = f"vroom_{identifier}_{secrets.token_urlsafe(32)}"
    now = datetime.now(UTC)
    row = {
        "id": identifier,
        "name": name,
        "role": role.name.lower(),
        "sha256": digest_of(key),
        "created_at": now,
        "expires_at": now + timedelta(days=days) if days is not None else None,
    }
    try:
        with contextlib.nullcontext(connection) if connection is not None else database.begin() as opened:
            opened.execute(keys.insert().values(row))
    except sa.exc.IntegrityError:
        raise BadKey(
            f"name: there is a key named {name!r} already; a name is used once, choose another"
        ) from None
    return key


def list_keys(database: sa.Engine) -> list[Key]:
    """All keys, the oldest first, revoked and expired ones too."""
    with database.connect() as connection:
        rows = connection.execute(sa.select(keys).order_by(keys.c.created_at, keys.c.id)).mappings().all()
    return [_key(row) for row in rows]


def revoke_key(database: sa.Engine, name_or_id: str) -> Key:
    """Revoke a key for ever; a service notices within seconds.

    Raises:
        BadKey: no key has that name or id.
    """
    with database.begin() as connection:
        chosen = sa.or_(keys.c.name == name_or_id, keys.c.id == name_or_id)
        row = connection.execute(sa.select(keys).where(chosen)).mappings().first()
        if row is None:
            raise BadKey(f"no key has the name or id {name_or_id!r}; `litestar keys list` shows all")
        if row["revoked_at"] is not None:
            return _key(row)
        now = datetime.now(UTC)
        connection.execute(keys.update().where(keys.c.id == row["id"]).values(revoked_at=now))
    return _key({**row, "revoked_at": now})


def create_first_admin(database: sa.Engine, path: Path) -> bool:
    """Make an admin's key if there is no key at all, and write it to a file that only its owner can read.

    The file is complete before the key counts: after a crash between the two the next start makes another.
    Of several processes that start at once one makes it.
    """
    with exclusive(database) as connection:
        if connection.execute(sa.select(keys.c.id).limit(1)).first() is not None:
            return False
        key = create_key(database, FIRST_ADMIN, Role.ADMIN, connection=connection)
        with (
            durable.replaced(path) as beside,
            open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file,
        ):
            file.write(key + "\n")
    log.warning("first start with keys: the admin's key is in %s; keep it and delete the file", path)
    return True


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Grant:
    """A key as the service holds it: what it may do, and how much of its rate is left."""

    __slots__ = ("allowance", "expires", "id", "name", "refilled", "role", "used")

    def __init__(self, identifier: str, name: str, role: Role, expires: float | None) -> None:
        self.id = identifier
        self.name = name
        self.role = role
        self.expires = expires  # seconds since the epoch
        self.used: float | None = None  # seconds since the epoch, where not yet written
        self.allowance = 0.0  # requests; below 0 where they are owed
        self.refilled = 0.0  # when that was so

    def take(self, rate: float) -> float:
        """Take one request out of a bucket that fills with `rate` requests a second and holds one second's.

        Returns the seconds to wait, 0 where the request may go on.
        """
        now = time.monotonic()
        self.allowance = min(max(rate, 1.0), self.allowance + (now - self.refilled) * rate)
        self.refilled = now
        if self.allowance < 1.0:
            return (1.0 - self.allowance) / rate
        self.allowance -= 1.0
        return 0.0

    def charge(self, requests: int) -> None:
        """Take more out than was asked for at first, on credit: what is missing has to come in before the next."""
        self.allowance -= requests


class Keyring:
    """The keys that this process knows. It reads the table again every `every` seconds.

    While the database does not answer, the keys read last stay valid. One that holds no key at all, because it
    is new, gets a first admin's.
    """

    def __init__(
        self, database: Callable[[], sa.Engine], first_admin: Path | None = None, every: float = 2.0
    ) -> None:
        self._database = database
        self._first_admin = first_admin  # the file of its key
        self._every = every
        self._grants: dict[str, Grant] = {}
        self._unknown_lookups = Grant("", "unknown keys", Role.VIEWER, None)
        self._written = time.monotonic()
        self._refreshing = asyncio.Lock()
        self.loaded = False  # whether the table was ever read

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Refresh the keys in the background."""
        await self.refresh()
        task = asyncio.create_task(self._keep(), name="keys")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.refresh(write_use=True)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.refresh()

    async def refresh(self, *, write_use: bool = False) -> None:
        """Read the table; a failure is logged and leaves all as it was."""
        async with self._refreshing:
            now = time.monotonic()
            write_use = write_use or now - self._written > _USE_WRITTEN_EVERY
            used = (
                {grant.id: grant.used for grant in self._grants.values() if grant.used} if write_use else {}
            )
            try:
                found = await asyncio.to_thread(_read, self._database, used)
                if not found and self._first_admin is not None:
                    await asyncio.to_thread(create_first_admin, self._database(), self._first_admin)
                    found = await asyncio.to_thread(_read, self._database, {})
            except Exception as error:  # whatever the database driver raises
                reason = str(error) if isinstance(error, UnusableDatabase) else type(error).__name__
                log.warning("keys: the table cannot be read: %s", reason)
                return
            if write_use:
                self._written = now
                for grant in self._grants.values():
                    grant.used = None
            self._grants = {
                digest: _merged(self._grants.get(digest), grant) for digest, grant in found.items()
            }
            self.loaded = True

    def find(self, key: str) -> Grant | None:
        """The grant of a key, None for one that is not known, revoked or expired."""
        grant = self._grants.get(digest_of(key))
        if grant is None:
            return None
        now = time.time()
        if grant.expires is not None and grant.expires <= now:
            return None
        grant.used = now
        return grant

    def holds(self, identifier: str) -> bool:
        """Whether a key, by its id, is still known, neither revoked nor expired."""
        now = time.time()
        return any(
            grant.id == identifier and (grant.expires is None or grant.expires > now)
            for grant in self._grants.values()
        )

    async def find_new(self, key: str) -> Grant | None:
        """As `find`, for a key made since the last refresh; few refreshes a second, however many unknown keys come."""
        if self._unknown_lookups.take(_UNKNOWN_LOOKUPS_PER_SECOND) == 0.0:
            await self.refresh()
        return self.find(key)


def _merged(old: Grant | None, new: Grant) -> Grant:
    """The new grant with the old one's use and rate."""
    if old is not None:
        new.used, new.allowance, new.refilled = old.used, old.allowance, old.refilled
    return new


def _read(database: Callable[[], sa.Engine], used: dict[str, float]) -> dict[str, Grant]:
    engine = database()
    if used:
        with engine.begin() as connection:
            for identifier, moment in used.items():
                connection.execute(
                    keys.update()
                    .where(keys.c.id == identifier)
                    .values(last_used_at=datetime.fromtimestamp(moment, UTC))
                )
    with engine.connect() as connection:
        rows = connection.execute(sa.select(keys).where(keys.c.revoked_at.is_(None))).mappings().all()
    return {
        row["sha256"]: Grant(
            row["id"],
            row["name"],
            Role[row["role"].upper()],
            _aware(row["expires_at"]).timestamp() if row["expires_at"] else None,
        )
        for row in rows
    }


def _key(row: Any) -> Key:
    times = {
        name: _aware(row[name]) if row[name] else None
        for name in ("created_at", "expires_at", "revoked_at", "last_used_at")
    }
    return convert({"id": row["id"], "name": row["name"], "role": row["role"], **times}, Key)


def _aware(moment: datetime) -> datetime:
    """SQLite forgets the zone; what is written is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
