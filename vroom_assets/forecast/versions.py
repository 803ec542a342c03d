"""What is declared and what was done about it, as versions by purpose; the step that leads from one to the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from vroom_api.contract import (
    BundleError,
    Manifest,
    manifest_of,
    read_pointer,
)
from vroom_api.contract.events import ContestResult, Published, Registered
from vroom_api.contract.tables import serving_database
from vroom_assets.forecast.names import CHALLENGER, CHAMPION
from vroom_assets.ledger import latest_evidence
from vroom_assets.monitoring.policy import Step
from vroom_assets.spec import ForecastSpec, Purpose

# The assets that a step makes anew; a training makes them all.
SELECTIONS = {Step.REPUBLISH: [CHAMPION], Step.REJUDGE: ["contest", CHAMPION]}


@dataclass(frozen=True)
class Versions:
    """One version for each kind of work."""

    table: str | None  # of the features
    trained: str | None  # of the challenger
    judged: str | None  # of the rules of the contest
    served: str | None  # of what the bundle says


# The metadata under which an asset records its version, in the order of the fields above.
RECORDS = {
    "features": "data_version",
    CHALLENGER: "trained_version",
    "contest": "judging_version",
    CHAMPION: "serving_version",
}


def declared(spec: ForecastSpec, contents: dict[str, str]) -> Versions:
    """What should be there for these contents of the sources."""
    return Versions(
        table=spec.data_version(contents),
        trained=spec.trained_version(contents),
        judged=spec.fingerprint(Purpose.JUDGING),
        served=spec.fingerprint(Purpose.SERVING),
    )


def recorded(instance: dg.DagsterInstance, spec: ForecastSpec, contents: dict[str, str]) -> Versions:
    """What was last made; None for what was never made, or left no version.

    The ledger and the bundle that serves are asked first: they are there as long as the forecast is, whereas
    Dagster's history may be lost or another one. It knows what was made before the ledger held versions, and
    which table of features is there. Versions of before fields had purposes count as what they are the same as.
    """
    today = {
        spec.former_data_version(contents): spec.data_version(contents),
        spec.former_trained_version(contents): spec.trained_version(contents),
    }
    own = made(spec, contents)
    table, trained, judged, served = (_latest(instance, spec, asset) for asset in RECORDS)
    found = (table or own.table, own.trained or trained, own.judged or judged, own.served or served)
    return Versions(*(today.get(version, version) if version else None for version in found))


def made(spec: ForecastSpec, contents: dict[str, str]) -> Versions:
    """What the ledger, the latest contest and the bundle that serves say was made."""
    with serving_database() as engine:
        training = latest_evidence(engine, spec.name, Registered)
        contest = latest_evidence(engine, spec.name, ContestResult)
        published = latest_evidence(engine, spec.name, Published)
    serves = champion(spec.name)
    trained = training.trained_version if training else ""
    if not training and serves:
        trained = serves.trained_version
    if not trained and serves and serves.code_version == spec.whole_fingerprint():
        same = serves.data_version in (spec.data_version(contents), spec.former_data_version(contents))
        trained = spec.trained_version(contents) if same else ""
    return Versions(
        table=(training.data_version if training else "") or (serves.data_version if serves else None),
        trained=trained or None,
        judged=(contest.judging_version if contest else "") or None,
        served=(published.serving_version if published else "") or None,
    )


def left_undone(forecast: str) -> Step:
    """What a run that ended early left: a challenger without its contest, or a verdict that nobody acted on."""
    with serving_database() as engine:
        training = latest_evidence(engine, forecast, Registered)
        contest = latest_evidence(engine, forecast, ContestResult)
    if training is None:
        return Step.NOTHING
    if contest is None or contest.challenger < training.version:
        return Step.REJUDGE
    pointer = read_pointer(forecast)
    return Step.REPUBLISH if contest.publishes(pointer.generation if pointer else 0) else Step.NOTHING


def champion(forecast: str) -> Manifest | None:
    """The manifest of the version that serves; None where there is none that can be read."""
    try:
        pointer = read_pointer(forecast)
        if pointer is None:
            return None
        return manifest_of(forecast, pointer.version)
    except BundleError:
        return None


def adopted(
    instance: dg.DagsterInstance, spec: ForecastSpec, contents: dict[str, str]
) -> list[dg.AssetObservation]:
    """Records of what was made before fields had purposes, so that a later change is compared with them."""
    if _latest(instance, spec, CHALLENGER) != spec.former_trained_version(contents):
        return []
    now = declared(spec, contents)
    versions = {CHALLENGER: now.trained, "contest": now.judged, CHAMPION: now.served}
    return [
        dg.AssetObservation(dg.AssetKey([spec.name, asset]), metadata={RECORDS[asset]: version})
        for asset, version in versions.items()
        if instance.get_latest_materialization_event(dg.AssetKey([spec.name, asset])) is not None
    ]


def next_step(now: Versions, done: Versions, asked: str = "") -> Step:
    """What has to run, the least that is enough.

    What was never judged or served has nothing to be made anew: somebody trains by hand.

    Args:
        asked: the training last asked for, where it is too early to ask for it again.
    """
    if now.trained not in (done.trained, asked):
        return Step.RETRAIN
    if done.judged not in (None, now.judged):
        return Step.REJUDGE if done.table == now.table else Step.RETRAIN
    if done.served not in (None, now.served):
        return Step.REPUBLISH
    return Step.NOTHING


def reason_of(step: Step, now: Versions, done: Versions, changed: Sequence[str] = ()) -> str:
    """Why a step is taken, as a sentence.

    Args:
        changed: the sources that did, and the declaration.
    """
    match step:
        case Step.REJUDGE:
            return (
                "the gates or the rules of the contest changed: the contest is held again, nothing is trained"
            )
        case Step.REPUBLISH:
            return (
                "texts of the bundle changed: the same model is published again with them, nothing is trained"
            )
        case Step.RETRAIN:
            what = f"{' and '.join(changed)} changed" if changed else "the declaration changed"
            return f"{what}: version {short(now.trained)}"
    was = "is trained already" if done.trained == now.trained else "was asked for already"
    return f"version {short(now.trained)} {was}"


def short(version: str | None) -> str:
    return version[:12] if version else "nothing"


def _latest(instance: dg.DagsterInstance, spec: ForecastSpec, asset: str) -> str | None:
    """The version in the newest record of an asset, made or observed."""
    key = dg.AssetKey([spec.name, asset])
    made = instance.get_latest_materialization_event(key)
    seen = instance.fetch_observations(key, limit=1).records
    records = []
    if made is not None and made.asset_materialization is not None:
        records.append((made.timestamp, made.asset_materialization.metadata))
    if seen and (observation := seen[0].asset_observation) is not None:
        records.append((seen[0].timestamp, observation.metadata))
    for _, metadata in sorted(records, key=lambda record: record[0], reverse=True):
        if entry := metadata.get(RECORDS[asset]):
            return str(entry.value)
    return None
