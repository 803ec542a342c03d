"""Bundles and pointers as files."""

import hashlib
from enum import StrEnum
from pathlib import Path

import msgspec

from vroom_api.contract import durable
from vroom_api.contract.decoding import decode
from vroom_api.contract.environment import home
from vroom_api.contract.manifest import FORMAT, OLDEST_FORMAT, Golden, Manifest, Training
from vroom_api.contract.struct import ContractStruct

MANIFEST, MODEL, GOLDEN, POINTER = "manifest.json", "model.onnx", "golden.json", "champion.json"
TRAINING = "training.json"  # what a rebuild needs; bundles of before it was kept have none
FORMER_NAMES = "former_names.json"  # of a forecast that was renamed: its earlier bundles say these


class BundleError(Exception):
    """A bundle or pointer that must not be served; the message says which file and why."""


class TrialRole(StrEnum):
    """What a second version does while it is tried."""

    SHADOW = "shadow"  # it scores a copy of requests that the champion has answered, and answers none
    SPLIT = "split"  # it answers a share of the requests


class Trial(ContractStruct, frozen=True):
    """A second version, tried beside the champion until somebody promotes or stops it."""

    version: int
    manifest_sha256: str
    role: TrialRole
    share: float  # of the requests: that it answers, below 1, or that are copied to it, at most 1
    since: (
        str  # ISO 8601; another role or share of the same version leaves it, so entities stay where they are
    )
    by: str  # who asked for it


class Pointer(ContractStruct, frozen=True):
    """Which version serves. `generation` grows by one with every publication, roll-back and change of traffic."""

    generation: int
    version: int
    manifest_sha256: str
    published_at: str
    retired: str | None = None  # why no version serves any more
    provisional: tuple[str, ...] = ()  # the gates that it serves without having passed, each as a sentence
    trial: Trial | None = None  # the version that is tried beside it


class _Format(msgspec.Struct):
    """What is read of a manifest first: the rest of another format may not be readable at all."""

    format: int


def forecast_folder(forecast: str, root: Path | None = None) -> Path:
    return (root or home()) / forecast


def bundle_folder(forecast: str, version: int, root: Path | None = None) -> Path:
    return forecast_folder(forecast, root) / "champions" / str(version)


def former_names(forecast: str, root: Path | None = None) -> tuple[str, ...]:
    """The names that a forecast had before, the oldest first."""
    try:
        content = durable.read(forecast_folder(forecast, root) / FORMER_NAMES)
        return decode(content, tuple[str, ...])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return ()


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_pointer(forecast: str, root: Path | None = None) -> Pointer | None:
    """The pointer, or None where nothing was ever published.

    Raises:
        BundleError: the file exists and is not a pointer.
    """
    path = forecast_folder(forecast, root) / POINTER
    try:
        return pointer_of(path)
    except FileNotFoundError:
        return None


def pointer_of(path: Path) -> Pointer:
    """The pointer in a file.

    Raises:
        BundleError: the file is not a pointer.
        FileNotFoundError: it is not there.
    """
    try:
        return decode(durable.read(path), Pointer)
    except FileNotFoundError:
        raise
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a pointer: {error}") from error


def read_manifest(content: bytes, origin: str) -> Manifest:
    """Decode a manifest.

    Raises:
        BundleError: not a manifest, or of another format.
    """
    try:
        found = decode(content, _Format).format
        if not OLDEST_FORMAT <= found <= FORMAT:
            newer = "update it" if found > FORMAT else "train again"
            formats = f"formats {OLDEST_FORMAT} to {FORMAT}"
            raise BundleError(f"{origin}: format {found}, this service reads {formats}; {newer}")
        return decode(content, Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{origin}: not a manifest: {error}") from error


def manifest_of(
    forecast: str, version: int, root: Path | None = None, *, sha256: str | None = None
) -> Manifest:
    """The manifest of a version, from its bundle.

    Args:
        sha256: that it has to have; None where any will do.

    Raises:
        BundleError: it is missing, unreadable, or not the published one.
    """
    path = bundle_folder(forecast, version, root) / MANIFEST
    return read_manifest(_content(path, sha256), str(path))


def _content(path: Path, sha256: str | None) -> bytes:
    """What a file of a bundle holds."""
    try:
        content = durable.read(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    if sha256 is not None and sha256_of(content) != sha256:
        raise BundleError(f"{path}: its SHA-256 is not the published one; the file is damaged or incomplete")
    return content


class Bundle(msgspec.Struct, frozen=True):
    """A bundle whose every byte agreed with its digests."""

    manifest: Manifest
    model: bytes
    golden: Golden
    training: Training | None = None  # None before it was kept


def read_bundle(
    folder: Path, manifest_sha256: str, forecast: str | None = None, root: Path | None = None
) -> Bundle:
    """Read a bundle into memory and check all of it against the digests.

    Args:
        forecast: whose it is. A bundle never changes, so one from before a renaming says a former name: it is read
            with the present one.

    Raises:
        BundleError: a file is missing, unreadable, or differs from its digest.
    """
    manifest = read_manifest(_content(folder / MANIFEST, manifest_sha256), str(folder / MANIFEST))
    for name in (MODEL, GOLDEN):
        if name not in manifest.files:
            raise BundleError(f"{folder / MANIFEST}: names no {name}")
    files = {name: _content(folder / name, digest) for name, digest in manifest.files.items()}
    try:
        golden = decode(files[GOLDEN], Golden)
    except msgspec.MsgspecError as error:
        raise BundleError(f"{folder / GOLDEN}: not golden rows: {error}") from error
    try:
        training = decode(files[TRAINING], Training) if TRAINING in files else None
    except msgspec.MsgspecError as error:
        raise BundleError(f"{folder / TRAINING}: not the record of a training: {error}") from error
    if forecast is not None and manifest.forecast in former_names(forecast, root):
        manifest = msgspec.structs.replace(manifest, forecast=forecast)
    return Bundle(manifest, files[MODEL], golden, training)
