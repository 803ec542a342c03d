"""The versions of a forecast that were published, by what their manifests say."""

from pathlib import Path

from vroom_api.contract import (
    BundleError,
    Manifest,
    manifest_of,
)
from vroom_api.contract.comparison import VersionComparison, compare
from vroom_api.contract.store import LocalStore
from vroom_api.problems import Problem


def comparison(forecast: str, before: int, after: int, root: Path) -> VersionComparison:
    """Two published versions beside each other.

    Raises:
        Problem: one was never published (404), or its manifest is not the published one (409).
    """
    try:
        history = LocalStore(root).history(forecast)
    except BundleError as error:
        raise Problem(409, "damaged-pointer", str(error).replace(f"{root}/", "")) from None
    published = {pointer.version: pointer for pointer in history}
    for version in (before, after):
        if version not in published:
            known = ", ".join(map(str, sorted(published))) or "none"
            raise Problem(
                404,
                "no-such-version",
                f"version {version} of {forecast} was never published; those that were: {known}",
            )
    one, other = published[before], published[after]
    return compare(
        _manifest(forecast, before, one.manifest_sha256, root),
        _manifest(forecast, after, other.manifest_sha256, root),
        provisional_before=one.provisional,
        provisional_after=other.provisional,
    )


def _manifest(forecast: str, version: int, manifest_sha256: str, root: Path) -> Manifest:
    try:
        return manifest_of(forecast, version, root, sha256=manifest_sha256)
    except BundleError as error:
        raise Problem(
            409, "damaged-version", str(error).replace(f"{root}/", "")
        ) from None  # never the machine's own
