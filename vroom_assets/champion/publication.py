"""Publication: a bundle is complete and proved, or it is not there.

A new version is proved and put beside those that served before; the pointer moves last. Only then does the
MLflow alias follow. The generation in the pointer decides between two publishers: who planned with an older
generation loses and changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vroom_api.contract import (
    GOLDEN,
    MANIFEST,
    MODEL,
    TRAINING,
    Bundle,
    BundleError,
    Golden,
    Manifest,
    Pointer,
    Training,
    durable,
    manifest_of,
    read_bundle,
    sha256_of,
)
from vroom_api.contract.announcements import announce_moved_pointer
from vroom_api.contract.events import Decision, Event, Published, Retirement, RolledBack, evidence_of
from vroom_api.contract.store import BundleStore, LocalStore, PointerMoved
from vroom_api.contract.tables import enter_ledger, ledger, serving_database
from vroom_api.contract.trials import enter_end


class NotPublished(Exception):
    """A bundle was refused; what served before still serves."""


def write(
    folder: Path, manifest: Manifest, model: bytes, golden: Golden, training: Training | None = None
) -> str:
    """Write a bundle's files into an empty folder and return the SHA-256 of its manifest."""
    contents = {MODEL: model, GOLDEN: msgspec.json.format(msgspec.json.encode(golden), indent=1)}
    if training is not None:
        contents[TRAINING] = msgspec.json.format(msgspec.json.encode(training), indent=1)
    manifest = msgspec.structs.replace(
        manifest, files={name: sha256_of(content) for name, content in contents.items()}
    )
    contents[MANIFEST] = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    durable.write_folder(folder, contents)
    return sha256_of(contents[MANIFEST])


def prove(bundle: Bundle) -> None:
    """Score the golden rows as the service will.

    Raises:
        NotPublished: the graph does not load or does not give the trained model's numbers.
    """
    from vroom_api.contract import model  # loads onnxruntime, which the code location does without

    try:
        model.prove(bundle)
    except BundleError as error:
        raise NotPublished(f"version {bundle.manifest.version}: {error}") from error


def publish(
    source: Path,
    manifest_sha256: str,
    *,
    generation: int,
    forecast: str | None = None,
    provisional: Sequence[str] = (),
    store: BundleStore | None = None,
) -> Pointer:
    """Make the bundle in `source` the one that serves.

    Args:
        source: folder with the files of a bundle.
        forecast: whose it is, where its manifest may say a former name.
        generation: of the pointer that this publication was decided against, 0 where there was none.
        provisional: the gates that it has not passed, each as a sentence.

    Raises:
        BundleError: the source is damaged.
        NotPublished: it does not reproduce its golden rows, or another publication came first.
    """
    store = store or LocalStore()
    manifest = keep(source, manifest_sha256, forecast=forecast, store=store).manifest
    return _point(store, manifest.forecast, manifest.version, manifest_sha256, generation, provisional)


def keep(
    source: Path, manifest_sha256: str, *, forecast: str | None = None, store: BundleStore | None = None
) -> Bundle:
    """Put the bundle in `source` beside those that served, so that it may serve or be tried; arguments as for `publish`.

    Raises:
        BundleError: the source is damaged.
        NotPublished: it does not reproduce its golden rows.
    """
    store = store or LocalStore()
    bundle = read_bundle(source, manifest_sha256, forecast)
    prove(bundle)
    forecast, version = bundle.manifest.forecast, bundle.manifest.version
    store.put(
        forecast, version, {name: (source / name).read_bytes() for name in (*bundle.manifest.files, MANIFEST)}
    )
    return store.read(forecast, version, manifest_sha256)


def promote(
    forecast: str,
    version: int,
    generation: int,
    reason: str,
    *,
    actor: str,
    run_id: str | None = None,
    store: BundleStore | None = None,
) -> tuple[Pointer, Pointer]:
    """Let the version that is tried serve, after checking that it loads and scores; the ledger says that its trial is over.

    Args:
        generation: of the pointer that this was decided against.

    Returns:
        the pointer before and the pointer after.

    Raises:
        NotPublished: it is not the version that is tried, it does not reproduce its golden rows, or something else was
            decided meanwhile.
        BundleError: its files are damaged.
    """
    store = store or LocalStore()
    current = store.pointer(forecast)
    trial = current.trial if current else None
    if current is None or current.generation != generation:
        present = current.generation if current else 0
        raise NotPublished(
            f"{forecast}: something else was decided meanwhile: the pointer has generation {present}, this was decided "
            f"against {generation}"
        )
    if trial is None or trial.version != version:
        tried = f"version {trial.version}" if trial else "none"
        raise NotPublished(f"{forecast}: version {version} is not the one that is tried, which is {tried}")
    prove(store.read(forecast, version, trial.manifest_sha256))
    ending = _Ending(reason, actor, run_id)
    return current, _point(store, forecast, version, trial.manifest_sha256, generation, ending=ending)


def restore(
    forecast: str,
    version: int | None,
    digest_of: Callable[[int], str],
    store: BundleStore | None = None,
    *,
    generation: int | None = None,
) -> tuple[Pointer, Pointer]:
    """Serve an earlier version again, after checking that it loads and scores.

    Args:
        version: which; None for the newest published one of an earlier training than the one that serves.
        digest_of: the SHA-256 of a version's manifest as it was registered, for those published before pointers were kept.
        generation: of the pointer that this was decided against; None for whatever serves now.

    Returns:
        the pointer before and the pointer after.

    Raises:
        NotPublished: nothing to go back to, the version was never published, or another publication came first.
        BundleError: its files are damaged.
    """
    store = store or LocalStore()
    current = store.pointer(forecast)
    if current is None:
        raise NotPublished(f"{forecast}: no champion serves, so there is nothing to roll back")
    digests = _published(forecast, store)
    published = [version for version in store.versions(forecast) if version in digests]
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
    digest = digests[version] or digest_of(version)
    prove(store.read(forecast, version, digest))
    as_it_served = [pointer for pointer in store.history(forecast) if pointer.version == version]
    provisional = as_it_served[-1].provisional if as_it_served else ()
    decided = current.generation if generation is None else generation
    return current, _point(store, forecast, version, digest, decided, provisional)


def retire(forecast: str, reason: str, store: BundleStore | None = None) -> Pointer:
    """Let no version of a forecast serve any more, and enter it in the ledger; all that was published stays.

    Raises:
        NothingServes: nothing was ever published.
    """
    store = store or LocalStore()
    before = store.pointer(forecast)
    pointer = store.retire(forecast, reason)
    announce_moved_pointer(forecast, pointer, pointer.version)
    with serving_database() as engine:
        enter_ledger(
            engine,
            forecast=forecast,
            actor="command retire",
            decision=Decision.RETIRED,
            reason=f"version {pointer.version} serves no more: {pointer.retired}",
            evidence=Retirement(version=pointer.version, generation=pointer.generation),
        )
        if before is not None and before.trial is not None:
            why = f"version {before.trial.version} is not tried any more: the forecast was retired"
            enter_end(engine, forecast, before, pointer, Decision.STOPPED, why, actor="command retire")
    return pointer


def _published(forecast: str, store: BundleStore) -> dict[int, str | None]:
    """The versions that ever served, with the digests of their manifests.

    A bundle whose publication came too late is kept like the others, and is none of them. Pointers of before they
    were kept are known by the ledger alone, without their digests.
    """
    pointers = store.history(forecast)
    digests: dict[int, str | None] = {}
    if pointers and len(pointers) < pointers[-1].generation:
        digests = dict.fromkeys(_entered(forecast))
    return digests | {pointer.version: pointer.manifest_sha256 for pointer in pointers}


def _entered(forecast: str) -> set[int]:
    """The versions that the ledger says served."""
    query = ledger.select().where(ledger.c.forecast == forecast)
    with serving_database() as engine, engine.connect() as connection:
        rows = connection.execute(query).fetchall()
    versions: set[int] = set()
    for row in rows:
        match row.event, row.decision:
            case Event.CHAMPION, Decision.PUBLISHED | Decision.RESTATED | Decision.CONFIRMED | Decision.KEPT:
                versions.add(evidence_of(Published, row.evidence).version)
            case Event.ROLLBACK, Decision.RESTORED:
                back = evidence_of(RolledBack, row.evidence)
                versions |= {back.before, back.after}
    return versions


def training_of(forecast: str, version: int) -> str:
    """Which training a version is of; one whose manifest is gone or damaged is of its own, and refused when it is chosen."""
    try:
        return manifest_of(forecast, version).mlflow_run_id
    except BundleError:
        return f"version {version}"


def _first_versions(forecast: str, published: list[int]) -> dict[int, int]:
    """For each published version the first one of the same training: later ones only say it in other words."""
    first: dict[str, int] = {}
    versions = {}
    for version in published:
        versions[version] = first.setdefault(training_of(forecast, version), version)
    return versions


@dataclass(frozen=True)
class _Ending:
    """Why a trial ends, and who ends it, for the ledger."""

    reason: str = "it was published or restored"
    actor: str = "publication"
    run_id: str | None = None


def _point(
    store: BundleStore,
    forecast: str,
    version: int,
    manifest_sha256: str,
    generation: int,
    provisional: Sequence[str] = (),
    ending: _Ending = _Ending(),
) -> Pointer:
    """Move the pointer to a version that is kept; where that ends a trial, the ledger says so.

    Raises:
        NotPublished: another publication came first.
    """
    before = store.pointer(forecast)
    try:
        after = store.point(forecast, version, manifest_sha256, generation, provisional)
    except PointerMoved as error:
        raise NotPublished(str(error)) from error
    announce_moved_pointer(forecast, after, before.version if before else None)
    if before is not None and before.trial is not None and after.trial is None:
        serves = f"version {version} serves instead of version {before.version}: {ending.reason}"
        tried = before.trial.version
        decision = Decision.PROMOTED if tried == version else Decision.STOPPED
        why = serves if tried == version else f"version {tried} is not tried any more: {serves}"
        with serving_database() as engine:
            enter_end(
                engine, forecast, before, after, decision, why, actor=ending.actor, run_id=ending.run_id
            )
    return after
