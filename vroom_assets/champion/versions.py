"""A version of a forecast by its number, wherever its bundle is kept."""

from __future__ import annotations

from dataclasses import dataclass

from vroom_api.contract import Bundle, BundleError, home, read_bundle
from vroom_api.contract.environment import sqlite_url
from vroom_api.contract.store import BundleStore, LocalStore
from vroom_assets.settings import tracking_uri
from vroom_assets.tracking import Registry


class UnknownVersion(Exception):
    """There is no such version, or its files are not whole; the message says which there are."""


@dataclass(frozen=True)
class Version:
    """A version's bundle, the digest of its manifest, and whether it ever served."""

    bundle: Bundle
    manifest_sha256: str
    served: bool


def version_of(
    forecast: str,
    number: int | None = None,
    store: BundleStore | None = None,
    registry: Registry | None = None,
) -> Version:
    """A version that served, or one that is only registered.

    Args:
        number: which; None for the one that serves.

    Raises:
        UnknownVersion: there is none of that number, or its files are damaged.
    """
    store = store or LocalStore()
    try:
        if number is None:
            pointer = store.pointer(forecast)
            if pointer is None:
                raise UnknownVersion(
                    f"{forecast} has no champion yet; VROOM_FORECAST={forecast} python -m vroom_assets materialize"
                )
            number = pointer.version
        digests = {pointer.version: pointer.manifest_sha256 for pointer in store.history(forecast)}
        if number in digests:
            return Version(store.read(forecast, number, digests[number]), digests[number], served=True)
        found = _registered(forecast, number, registry or Registry())
    except BundleError as error:
        raise UnknownVersion(str(error)) from error
    if found is None:
        known = ", ".join(map(str, sorted(digests))) or "none"
        raise UnknownVersion(
            f"{forecast}: version {number} never served, and MLflow does not have its bundle; those that served: {known}"
        )
    return found


def _registered(forecast: str, number: int, registry: Registry) -> Version | None:
    """The version as MLflow has it, None where it has none."""
    database = home() / "mlflow" / "mlflow.db"
    if tracking_uri() == sqlite_url(database) and not database.is_file():
        return None  # a client would make one
    try:
        digest = registry.manifest_sha256(forecast, number)
    except LookupError:
        return None
    with registry.bundle(forecast, number) as folder:
        return Version(read_bundle(folder, digest, forecast), digest, served=False)
