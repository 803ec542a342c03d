"""Publication: a bundle is complete and proved, or it is not there.

A new version is written beside, read back and scored, then renamed; the pointer is replaced last. Only
then does the MLflow alias follow. The generation in the pointer decides between two publishers: who
planned with an older generation loses and changes nothing.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from vroom_api.contract import (
    GOLDEN,
    MANIFEST,
    MODEL,
    POINTER,
    Bundle,
    BundleError,
    Golden,
    Manifest,
    Pointer,
    bundle_folder,
    forecast_folder,
    read_bundle,
    read_manifest,
    read_pointer,
    sha256_of,
)
from vroom_assets.durable import _sync_folder, _write_durably, write_beside


class NotPublished(Exception):
    """A bundle was refused; what served before still serves."""


def write(folder: Path, manifest: Manifest, model: bytes, golden: Golden) -> str:
    """Write a bundle's files into an empty folder and return the SHA-256 of its manifest."""
    folder.mkdir(parents=True)
    contents = {MODEL: model, GOLDEN: msgspec.json.format(msgspec.json.encode(golden), indent=1)}
    manifest = msgspec.structs.replace(
        manifest, files={name: sha256_of(content) for name, content in contents.items()}
    )
    contents[MANIFEST] = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    for name, content in contents.items():
        _write_durably(folder / name, content)
    return sha256_of(contents[MANIFEST])


def prove(bundle: Bundle) -> None:
    """Score the golden rows as the service will.

    Raises:
        NotPublished: the graph does not load or does not give the trained model's numbers.
    """
    import onnxruntime

    golden = bundle.golden
    try:
        session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
        prediction, features = session.run(
            ["prediction", "features"], {"inputs": np.asarray(golden.inputs, dtype=np.float64)}
        )
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise NotPublished(f"version {bundle.manifest.version}: {MODEL} does not run: {error}") from error
    expected = np.asarray(golden.features, dtype=np.float64)
    if not np.allclose(features, expected, rtol=0, atol=1e-9, equal_nan=True):
        raise NotPublished(f"version {bundle.manifest.version}: features differ from the golden rows")
    if not golden.agrees(prediction.tolist()):
        raise NotPublished(f"version {bundle.manifest.version}: predictions differ from the golden rows")


def publish(source: Path, manifest_sha256: str, *, generation: int) -> Pointer:
    """Make the bundle in `source` the one that serves.

    Args:
        source: folder with the files of a bundle.
        generation: of the pointer that this publication was decided against, 0 where there was none.

    Raises:
        BundleError: the source is damaged.
        NotPublished: it does not reproduce its golden rows, or another publication came first.
    """
    bundle = read_bundle(source, manifest_sha256)
    prove(bundle)
    forecast, version = bundle.manifest.forecast, bundle.manifest.version
    target = bundle_folder(forecast, version)
    with _only_publisher(forecast):
        for abandoned in target.parent.glob(".*"):  # of a publisher that died: nobody else writes here now
            shutil.rmtree(abandoned, ignore_errors=True)
        if not target.exists():
            beside = target.with_name(f".{version}-{uuid.uuid4().hex}")
            beside.mkdir(parents=True)
            try:
                for name in (*bundle.manifest.files, MANIFEST):
                    _write_durably(beside / name, (source / name).read_bytes())
                read_bundle(beside, manifest_sha256)
                os.rename(beside, target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            _sync_folder(target.parent)
        read_bundle(target, manifest_sha256)
        return _point(forecast, version, manifest_sha256, generation)


def restore(forecast: str, version: int | None, digest_of: Callable[[int], str]) -> tuple[Pointer, Pointer]:
    """Serve an earlier version again, after checking that it loads and scores.

    Args:
        version: which; None for the newest published one of an earlier training than the one that serves.
        digest_of: the SHA-256 of a version's manifest as it was registered.

    Returns:
        the pointer before and the pointer after.

    Raises:
        NotPublished: nothing to go back to, or the version was never published.
        BundleError: its files are damaged.
    """
    current = read_pointer(forecast)
    published = published_versions(forecast)
    if current is None:
        raise NotPublished(f"{forecast}: no champion serves, so there is nothing to roll back")
    if version is None:
        first = _first_versions(forecast, published)
        own = first.get(current.version, current.version)
        earlier = [v for v in published if first[v] < own]
        if not earlier:
            raise NotPublished(f"{forecast}: no version before {current.version} was published")
        version = max(earlier, key=lambda v: (first[v], v))
    if version not in published:
        raise NotPublished(
            f"{forecast}: version {version} was never published; choose one of {', '.join(map(str, published))}"
        )
    digest = digest_of(version)
    prove(read_bundle(bundle_folder(forecast, version), digest))
    with _only_publisher(forecast):
        return current, _point(forecast, version, digest, current.generation)


def published_versions(forecast: str) -> list[int]:
    """All versions that ever served and are still on disk, ascending."""
    folder = forecast_folder(forecast) / "champions"
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())


def _first_versions(forecast: str, published: list[int]) -> dict[int, int]:
    """For each published version the first one of the same training: later ones only say it in other words."""
    first: dict[str, int] = {}
    versions = {}
    for version in published:
        path = bundle_folder(forecast, version) / MANIFEST
        try:
            training = read_manifest(path.read_bytes(), str(path)).mlflow_run_id
        except (OSError, BundleError):  # damaged; it is refused when it is chosen
            training = f"version {version}"
        versions[version] = first.setdefault(training, version)
    return versions


def _point(forecast: str, version: int, manifest_sha256: str, generation: int) -> Pointer:
    current = read_pointer(forecast)
    if (current.generation if current else 0) != generation:
        raise NotPublished(
            f"{forecast}: another version was published meanwhile (generation {current.generation if current else 0}, "
            f"this one was decided against {generation}); run the contest again"
        )
    if current and current.version == version and current.manifest_sha256 == manifest_sha256:
        return current
    pointer = Pointer(
        generation=generation + 1,
        version=version,
        manifest_sha256=manifest_sha256,
        published_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_beside(forecast_folder(forecast) / POINTER, msgspec.json.encode(pointer))
    return pointer


@contextmanager
def _only_publisher(forecast: str) -> Iterator[None]:
    """One publisher at a time on this machine; the lock dies with its process."""
    import fcntl

    folder = forecast_folder(forecast)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".publish.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
