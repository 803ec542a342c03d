"""The champion is proved before it serves, watched, and swapped as a whole."""

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, golden_of, graph, inputs, point, predicted, publish
from tests.support.calibrations import correct, go_back
from tests.support.irregular import IRREGULAR
from tests.support.service import wait_for
from vroom_api.champion.loading import load, score
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract import (
    POINTER,
    BundleError,
    Calibration,
    Kind,
    Lever,
    Recipe,
    Reliability,
    bundle_folder,
    forecast_folder,
)
from vroom_api.contract.calibrations import IN_FORCE, read_in_force, revision_file
from vroom_api.contract.entities import ENTITIES


def version_of(client: TestClient[Any]) -> int:
    found: int = client.post("/predict", json=EXAMPLE).json()["model_version"]
    return found


def test_a_published_bundle_loads_and_gives_the_models_numbers(state: Path) -> None:
    publish(state, 3)
    champion = load(FORECAST, state)
    assert champion is not None
    row = [float(value) for value in EXAMPLE.values()]
    predictions, features = score(champion, np.array([row, row]))
    expected_features, expected = predicted(row, scale=3.0)
    np.testing.assert_allclose(predictions, [expected, expected], rtol=1e-12)
    np.testing.assert_allclose(features, [expected_features] * 2, rtol=1e-12)


def test_where_nothing_was_published_there_is_no_champion(state: Path) -> None:
    assert load(FORECAST, state) is None


def shifted(part: str, factor: float) -> Any:
    golden = golden_of(1.0)
    values = np.array(getattr(golden, part)) * factor
    return msgspec.structs.replace(golden, **{part: values.tolist()})


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "predictions beyond the tolerance": (
        {"golden": shifted("predictions", 1 + 1e-5)},
        "predictions differ",
    ),
    "features beyond the tolerance": ({"golden": shifted("features", 1 + 1e-5)}, "features differ"),
    "another model": ({"model": graph(2.0)}, "predictions differ"),
    "no model": ({"model": b"not a graph"}, "the model does not load"),
    "no golden rows": (
        {"golden": msgspec.structs.replace(golden_of(1.0), inputs=[], features=[], predictions=[])},
        "no golden rows",
    ),
    "golden rows of other inputs": (
        {"golden": msgspec.structs.replace(golden_of(1.0), inputs=[[1.0, 2.0]] * 20)},
        "do not have the manifest's inputs",
    ),
    "fewer golden predictions than rows": (
        {"golden": msgspec.structs.replace(golden_of(1.0), predictions=golden_of(1.0).predictions[:5])},
        "predictions differ",
    ),
    "another forecast": ({"forecast": "lap_times"}, "holds version 1 of lap_times"),
    "another format": ({"format": 4}, "format 4, this service reads formats 1 to 3"),
    "an input twice": (
        {"inputs": [*inputs()[:5], inputs()[0]]},
        "input names are missing, repeated or reserved: technology",
    ),
    "an input named as an option": (
        {"inputs": [*inputs()[:5], msgspec.structs.replace(inputs()[5], name="level")]},
        "input names are missing, repeated or reserved: level",
    ),
    "advice about what is not an input": (
        {"advice": {"paint": Lever(input="colour", worth="revenue", unit="USD", description="")}},
        "advice about paint: its lever colour is not one of the inputs",
    ),
    "a manifest of more inputs than the model": (
        {"inputs": [*inputs(), *inputs()]},
        "input names are missing, repeated or reserved",
    ),
}


@pytest.mark.parametrize(("parts", "reason"), UNFIT.values(), ids=UNFIT.keys())
def test_an_unfit_bundle_is_refused_and_the_reason_told(
    state: Path, parts: dict[str, Any], reason: str
) -> None:
    publish(state, 1, **parts)
    with pytest.raises(BundleError, match=reason):
        load(FORECAST, state)


def test_predictions_within_the_tolerance_are_good_enough(state: Path) -> None:
    publish(state, 1, golden=shifted("predictions", 1 + 1e-8))
    assert load(FORECAST, state) is not None


def test_a_calibration_without_an_interval_is_refused(state: Path) -> None:
    champion = publish(state, 1) and load(FORECAST, state)
    assert champion is not None
    calibration = msgspec.structs.replace(champion.manifest.calibration, probabilities=[], quantiles=[])
    publish(state, 2, calibration=calibration)
    with pytest.raises(BundleError, match="golden rows"):
        load(FORECAST, state)


def test_a_new_version_is_served_without_being_told(state: Path, client: TestClient[Any]) -> None:
    assert version_of(client) == 1
    publish(state, 2)
    wait_for(lambda: version_of(client) == 2)
    assert client.get("/health").json()["generation"] == 2


def test_an_earlier_version_is_served_again(state: Path, client: TestClient[Any]) -> None:
    publish(state, 2)
    wait_for(lambda: version_of(client) == 2)
    point(state, 1)
    wait_for(lambda: version_of(client) == 1)
    assert client.get("/health").json()["generation"] == 3


def test_the_first_champion_is_served_by_a_service_that_waits_for_it(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    client = serve()
    assert client.get("/health").json()["status"] == "no_champion"
    assert client.post("/predict", json=EXAMPLE).status_code == 503
    publish(state, 1)
    wait_for(lambda: client.get("/health").json()["status"] == "ok")
    assert version_of(client) == 1


def test_a_refused_version_leaves_the_last_good_one_and_is_told(
    state: Path, client: TestClient[Any], caplog: pytest.LogCaptureFixture
) -> None:
    publish(state, 2, model=graph(5.0))
    wait_for(lambda: client.get("/health").json()["status"] == "degraded")
    assert version_of(client) == 1
    health = client.get("/health").json()
    assert health["model_version"] == 1
    assert "predictions differ from the golden rows" in health["last_error"]
    assert health["last_error_at"]
    assert "version 1 keeps serving" in caplog.text
    publish(state, 3)
    wait_for(lambda: version_of(client) == 3)
    assert client.get("/health").json() | {"last_error_at": None, "checked_s": 0.0} == {
        "status": "ok",
        "forecast": FORECAST,
        "model_version": 3,
        "generation": 3,
        "last_error": None,
        "last_error_at": None,
        "checked_s": 0.0,
        "attended_at": None,
        "unattended_since": None,
        "trial": None,
    }


def test_a_pointer_that_is_gone_leaves_the_champion(state: Path, client: TestClient[Any]) -> None:
    pointer = forecast_folder(FORECAST, state) / POINTER
    content = pointer.read_bytes()
    pointer.unlink()
    wait_for(lambda: client.get("/health").json()["status"] == "degraded")
    assert version_of(client) == 1
    assert "the file is gone" in client.get("/health").json()["last_error"]
    pointer.write_bytes(content)
    wait_for(lambda: client.get("/health").json()["status"] == "ok")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("name", [POINTER, "champions/1/manifest.json", "champions/1/model.onnx", ENTITIES])
def test_what_is_no_file_is_a_fault_and_passes_when_it_is_put_right(
    state: Path, client: TestClient[Any], name: str, kind: str
) -> None:
    path = forecast_folder(FORECAST, state) / name
    kept = path.with_name("kept")
    if name != ENTITIES:
        path.rename(kept)
    IRREGULAR[kind](path)
    if name == ENTITIES:
        assert client.post("/predict", json={"entity_id": "7"}).status_code in (404, 503)
    else:
        wait_for(lambda: client.get("/health").json()["status"] == "degraded")
    assert version_of(client) == 1
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()
    if name != ENTITIES:
        kept.rename(path)
    wait_for(lambda: client.get("/health").json()["status"] == "ok")
    publish(state, 2)
    wait_for(lambda: version_of(client) == 2)


def test_a_watch_that_does_not_look_any_more_is_told(
    state: Path, client: TestClient[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(lambda: client.get("/health").json()["checked_s"] < 1)
    released = threading.Event()

    def hang(_: ChampionWatch) -> object:
        released.wait(60)
        return None

    monkeypatch.setattr("vroom_api.champion.watch.MIN_STALL", 0.6)
    monkeypatch.setattr(ChampionWatch, "_state_of_files", hang)  # as a disk that does not answer
    wait_for(lambda: client.get("/health").json()["status"] == "degraded")
    health = client.get("/health").json()
    assert health["checked_s"] >= 0.6
    assert "was not checked for" in health["last_error"]
    assert version_of(client) == 1
    monkeypatch.undo()
    released.set()
    wait_for(lambda: client.get("/health").json()["status"] == "ok")


def test_a_broken_bundle_is_tried_again_when_it_changes_and_only_then(state: Path) -> None:
    async def scenario() -> None:
        publish(state, 1)
        watch = ChampionWatch(FORECAST, state, 0.01)
        await watch.reload()
        task = asyncio.create_task(watch.watch())
        publish(state, 2)
        model = bundle_folder(FORECAST, 2, state) / "model.onnx"
        good = model.read_bytes()
        model.write_bytes(b"")
        while watch.failures == 0:
            await asyncio.sleep(0.01)
        tried = watch.failures
        await asyncio.sleep(0.3)  # thirty checks
        assert watch.failures == tried
        assert watch.champion is not None
        assert watch.champion.version == 1
        beside = model.with_name("whole")
        beside.write_bytes(good)
        os.replace(beside, model)
        while watch.champion.version == 1:
            await asyncio.sleep(0.01)
        assert watch.failure is None
        task.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_damage_to_the_files_of_the_serving_version_is_told(state: Path, client: TestClient[Any]) -> None:
    folder = bundle_folder(FORECAST, 1, state)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    (folder / "golden.json").write_bytes(b"{}")
    wait_for(lambda: client.get("/health").json()["status"] == "degraded")
    assert version_of(client) == 1
    shutil.copy(kept / "golden.json", folder / "golden.json")
    wait_for(lambda: client.get("/health").json()["status"] == "ok")


def test_reload_says_what_came_of_it(state: Path, serve: Callable[..., TestClient[Any]]) -> None:
    client = serve(watch_seconds=3_600)

    def reload() -> dict[str, Any]:
        answer = client.post("/reload")
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found

    none = reload()
    assert (none["status"], none["previous_version"], none["current_version"]) == ("failed", None, None)
    assert "nothing was published yet" in none["detail"]
    publish(state, 1)
    first = reload()
    assert (first["status"], first["previous_version"], first["current_version"]) == ("reloaded", None, 1)
    same = reload()
    assert (same["status"], same["previous_version"], same["current_version"]) == ("unchanged", 1, 1)
    publish(state, 2)
    assert version_of(client) == 1
    second = reload()
    assert (second["status"], second["previous_version"], second["current_version"]) == ("reloaded", 1, 2)
    publish(state, 3, model=graph(9.0))
    third = reload()
    assert (third["status"], third["previous_version"], third["current_version"]) == ("failed", 2, 2)
    assert "version 2 keeps serving" in third["detail"]
    assert version_of(client) == 2


def answer_of(client: TestClient[Any], **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.post("/predict", json=EXAMPLE | given).json()
    return found


def calibration_of(client: TestClient[Any]) -> int | None:
    found: int | None = answer_of(client)["calibration"]
    return found


def test_a_calibration_revision_is_served_without_a_restart_and_taken_back(
    state: Path, client: TestClient[Any]
) -> None:
    before = answer_of(client)
    assert before["calibration"] is None
    assert client.get("/model").json()["calibration"] is None
    correct(state, FORECAST, lower=0.5, upper=2.0)
    wait_for(lambda: calibration_of(client) == 1)
    after = answer_of(client)
    value = before["predicted_reservations"]
    assert after["predicted_reservations"] == value
    assert after["interval"]["high"] == pytest.approx(value + 2 * (before["interval"]["high"] - value), abs=2)
    assert before["interval"]["low"] < after["interval"]["low"] < value
    assert client.post("/predict/batch", json=[EXAMPLE]).json()[0]["interval"] == after["interval"]
    served = client.get("/model").json()
    assert served["version"] == 1
    assert (served["calibration"]["number"], served["calibration"]["upper"]) == (1, 2.0)
    curve = client.post("/advise/price", json=EXAMPLE).json()
    assert curve["calibration"] == 1
    assert curve["curve"]["current"]["high"] == after["interval"]["high"]
    go_back(state, FORECAST, None)
    wait_for(lambda: calibration_of(client) is None)
    assert answer_of(client)["interval"] == before["interval"]


def test_a_new_champion_leaves_the_revision_behind(state: Path, client: TestClient[Any]) -> None:
    correct(state, FORECAST, upper=2.0)
    wait_for(lambda: calibration_of(client) == 1)
    publish(state, 2)
    wait_for(lambda: version_of(client) == 2)
    assert calibration_of(client) is None
    assert client.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize("damage", ["revision", "pointer", "gone"])
def test_a_damaged_revision_leaves_what_was_in_force_and_is_told(
    state: Path, client: TestClient[Any], damage: str
) -> None:
    first = correct(state, FORECAST, upper=2.0)
    wait_for(lambda: calibration_of(client) == 1)
    pointer, path = forecast_folder(FORECAST, state) / IN_FORCE, revision_file(FORECAST, 1, 2, state)
    whole = pointer.read_bytes()
    if damage == "pointer":
        pointer.write_bytes(whole[:30])
    else:
        if damage == "revision":
            path.write_bytes(revision_file(FORECAST, 1, 1, state).read_bytes()[:40])
        present = read_in_force(FORECAST, state)
        assert present is not None
        pointer.write_bytes(msgspec.json.encode(msgspec.structs.replace(present, number=2)))
    wait_for(lambda: client.get("/health").json()["status"] == "degraded")
    health = client.get("/health").json()
    assert "calibration revision 1 stays" in health["last_error"]
    assert str(state) not in health["last_error"]
    assert calibration_of(client) == first.number
    pointer.write_bytes(whole)
    wait_for(lambda: client.get("/health").json()["status"] == "ok")
    assert calibration_of(client) == first.number


def test_with_a_damaged_revision_a_service_starts_with_the_intervals_of_the_bundle(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    publish(state, 1)
    correct(state, FORECAST, upper=2.0)
    path = revision_file(FORECAST, 1, 1, state)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    client = serve()
    assert calibration_of(client) is None
    health = client.get("/health").json()
    assert health["status"] == "degraded"
    assert "its SHA-256 is not the published one" in health["last_error"]
    assert "its intervals are those of the bundle" in health["last_error"]
    path.write_bytes(whole)
    wait_for(lambda: calibration_of(client) == 1)
    assert client.get("/health").json()["status"] == "ok"


PROBABLE = Calibration(
    power=0.0,
    probabilities=[],
    quantiles=[],
    integer=False,
    minimum=0.0,
    coverage={},
    reliability=Reliability(edges=[0.2, 0.5], rows=[40, 30, 17], yes=[3, 10, 12], predicted=[0.1, 0.3, 0.8]),
)


def test_a_corrected_probability_is_the_one_of_every_answer(
    state: Path, serve: Callable[..., TestClient[Any]]
) -> None:
    recipe = Recipe(name="small", family="small", features=[], definition={})  # of which the graph reads any
    publish(state, 1, scale=0.05, kind=Kind.BINARY, calibration=PROBABLE, recipe=recipe)
    client = serve()
    before = answer_of(client)
    correct(state, FORECAST, intercept=0.5, slope=0.8)
    wait_for(lambda: calibration_of(client) == 1)
    after = answer_of(client, explain=True)
    value, model = after["predicted_reservations"], before["predicted_reservations"]
    assert value == pytest.approx(1 / (1 + np.exp(-(0.5 + 0.8 * np.log(model / (1 - model))))))
    assert after["interval"]["low"] <= value <= after["interval"]["high"]
    reasons = after["reasons"]
    total = reasons["baseline"] + sum(reason["amount"] for reason in reasons["reasons"])
    assert total == pytest.approx(value)
    assert client.post("/predict/batch", json=[EXAMPLE]).json()[0]["interval"] == after["interval"]
    assert client.post("/advise/price", json=EXAMPLE).json()["curve"]["current"]["prediction"] == value
