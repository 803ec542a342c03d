"""Two versions of small bundles, one promoted after the other, and what became of the requests since."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas as pd
from onnx import numpy_helper

from tests.support.bundles import FORECAST, NAMES, golden_of, graph, manifest, predicted
from vroom_api.contract import Bundle, Pointer, Scores, Trial, TrialRole, forecast_folder, read_pointer
from vroom_api.contract.store import LocalStore
from vroom_assets.champion import publication


def promote(version: int, scale: float = 1.0, training: str = "", **given: Any) -> Pointer:
    """Publish a version as training does; its model says `scale` times what is true of `outcomes`."""
    source = forecast_folder(FORECAST) / f"made-{version}"
    described = manifest(version, mlflow_run_id=training or f"training {version}", **given)
    digest = publication.write(source, described, graph(scale), golden_of(scale))
    before = read_pointer(FORECAST)
    return publication.publish(source, digest, generation=before.generation if before else 0)


def predictions(
    rows: int, version: int, scale: float, seed: int = 5, days: float = 5.0, begin: str | None = None
) -> pd.DataFrame:
    """Requests that a version answered, evenly over days from now on, and their outcomes a minute later."""
    rng = np.random.default_rng(seed)
    inputs = [
        {
            "technology": int(rng.integers(2)),
            "actual_price": float(rng.uniform(30, 100)),
            "recommended_price": float(rng.uniform(30, 100)),
            "num_images": int(rng.integers(1, 20)),
            "street_parked": int(rng.integers(2)),
            "description": int(rng.integers(900)),
        }
        for _ in range(rows)
    ]
    truth = np.array([predicted([float(one[name]) for name in NAMES], 1.0)[1] for one in inputs])
    first = pd.Timestamp(begin) if begin else pd.Timestamp.now("UTC")
    time = first + pd.to_timedelta(np.linspace(0, days, rows, endpoint=False), "D")
    return pd.DataFrame(
        {
            "id": [f"{seed}-{number}" for number in range(rows)],
            "version": version,
            "time": time,
            "entity_id": None,
            **{f"input_{name}": [one[name] for one in inputs] for name in NAMES},
            "prediction": scale * truth,
            "outcome": rng.poisson(truth).astype(float),
            "exposure": 1.0,
            "outcome_at": time + pd.Timedelta(minutes=1),
        }
    )


def unpublished(folder: Path, version: int, scale: float = 1.0) -> tuple[Path, str]:
    """A bundle that is ready to be published, and the digest of its manifest."""
    described = manifest(version, mlflow_run_id=f"training {version}")
    return folder, publication.write(folder, described, graph(scale), golden_of(scale))


def try_beside(
    version: int, scale: float = 1.0, role: TrialRole = TrialRole.SPLIT, share: float = 0.5, **given: Any
) -> Pointer:
    """Keep a version and let the pointer say that it is tried from now on; its model is as in `promote`."""
    source, store = forecast_folder(FORECAST) / f"made-{version}", LocalStore()
    if version not in store.versions(FORECAST):
        described = manifest(version, mlflow_run_id=f"training {version}", **given)
        publication.write(source, described, graph(scale), golden_of(scale))
        store.put(FORECAST, version, {path.name: path.read_bytes() for path in source.iterdir()})
    digest = store.digest(FORECAST, version)
    current = read_pointer(FORECAST)
    assert current is not None
    since = pd.Timestamp.now("UTC").isoformat(timespec="milliseconds")
    trial = Trial(version=version, manifest_sha256=digest, role=role, share=share, since=since, by="ann")
    return store.set_trial(FORECAST, trial, current.generation)


def scaled(bundle: Bundle, version: int, factor: float) -> Bundle:
    """A trained version as another one, whose model predicts `factor` times what it does."""
    model = onnx.load_model_from_string(bundle.model)
    for node in model.graph.node:
        for number, name in enumerate(node.output):
            if name == "prediction":
                node.output[number] = "as trained"
    model.graph.initializer.append(numpy_helper.from_array(np.array([factor]), "factor"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["as trained", "factor"], ["prediction"]))
    golden = msgspec.structs.replace(
        bundle.golden, predictions=[factor * one for one in bundle.golden.predictions]
    )
    described = msgspec.structs.replace(
        bundle.manifest, version=version, mlflow_run_id=f"training {version}", files={}
    )
    return Bundle(described, model.SerializeToString(), golden)


def try_bundle(bundle: Bundle, since: str, share: float) -> Pointer:
    """Keep a version and let the pointer of its forecast say that it is tried since a time."""
    name, version, store = bundle.manifest.forecast, bundle.manifest.version, LocalStore()
    source = forecast_folder(name) / f"made-{version}"
    digest = publication.write(source, bundle.manifest, bundle.model, bundle.golden)
    store.put(name, version, {path.name: path.read_bytes() for path in source.iterdir()})
    shutil.rmtree(source)
    current = read_pointer(name)
    assert current is not None
    trial = Trial(
        version=version, manifest_sha256=digest, role=TrialRole.SPLIT, share=share, since=since, by="ann"
    )
    return store.set_trial(name, trial, current.generation)


def with_error(error: float) -> dict[str, Any]:
    """Scores of a training whose nested error is this, for `promote`."""
    figures = {"mae": error, "bias": 0.0}
    scores = Scores(
        error="mae",
        select="mae",
        nested=figures,
        cv_mean=figures,
        cv_std=figures,
        folds=[error],
        baselines={"mean": {"mae": 2 * error}},
    )
    return {"scores": scores}
