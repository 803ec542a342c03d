"""Trainings that meet a fault at a stage of their own: a function of the machinery that they get to."""

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from tests.support.forecasts import definitions, shipped
from vroom_assets import local_run
from vroom_assets.forecast import Forecast

NAME = "reservations"
BALLAST = "VROOM_TEST_BALLAST"  # a file that is written until its disk is full
PATIENCE = 600  # seconds, of a training of many rows

STAGES = {
    "a snapshot is being taken": "vroom_assets.sources.snapshot",
    "rows are being read": "vroom_assets.sources.load",
    "a table is being replaced": "vroom_assets.sources.table._replace_table",
    "features are being computed": "vroom_assets.features.table._refuse_bad_rows",
    "features are being published": "vroom_assets.features.table.write_parquet",
    "inputs are being stored": "vroom_assets.features.online.store",
    "candidates are being scored": "vroom_assets.training.search.choose",
    "the version is registered, its bundle is not": "vroom_assets.champion.publication.write",
    "scores are being written": "vroom_assets.training.summary.write_search",
    "the contest is being held": "vroom_assets.champion.contest.compare",
    "the bundle is being proved": "vroom_assets.champion.publication.prove",
    "the bundle is in its place": "vroom_api.contract.store.LocalStore.read",
    "the pointer is about to move": "vroom_assets.champion.publication._point",
    "the pointer moved, the alias did not": "vroom_assets.tracking.Registry.set_alias",
}
PRELOADED = [
    "dagster",
    "mlflow",
    "mlflow.onnx",
    "mlflow.store.tracking.sqlalchemy_store",
    "matplotlib.backends.backend_agg",
    "sklearn.ensemble",
    "duckdb",
    "onnxruntime",
    "vroom_assets.definitions",
]


def fast_declaration() -> Forecast:
    """The fast flagship, for a process that has no fixtures."""
    whole = shipped(NAME)
    return shipped(
        NAME,
        candidates={"glm": whole.candidates["glm"]},
        validation={"folds": 3, "repeats": 1, "inner_folds": 2},
    )


def killed(_: Callable[..., Any]) -> Callable[..., Any]:
    """The process is gone where the stage begins."""
    return lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)


def disk_full(stage: Callable[..., Any]) -> Callable[..., Any]:
    """The disk is full where the stage begins, and stays so."""

    def on_a_full_disk(*given: Any, **named: Any) -> Any:
        with contextlib.suppress(OSError), open(os.environ[BALLAST], "ab", buffering=0) as ballast:
            while ballast.write(b"x" * 4096):
                pass
        return stage(*given, **named)

    return on_a_full_disk


def execute(stage: str, fate: Callable[..., Any], environment: dict[str, str]) -> None:
    """Run in a process of its own: train, and meet a fate where `stage` says."""
    os.environ.update(environment)
    if stage:
        module, _, name = stage.rpartition(".")
        owner: Any
        try:
            owner = importlib.import_module(module)
        except ModuleNotFoundError:
            outer, _, inner = module.rpartition(".")
            owner = getattr(importlib.import_module(outer), inner)
        # A stage that was renamed is an error here, and not a training that nothing happens to.
        setattr(owner, name, fate(getattr(owner, name)))
    with dg.DagsterInstance.get() as instance:
        job = definitions(fast_declaration()).resolve_job_def(f"{NAME}_retrain")
        sys.exit(0 if local_run.execute(instance, job, {}) else 1)


def train(stage: str = "", fate: Callable[..., Any] = killed) -> int | None:
    """The exit code of a training in a process that has everything imported already."""
    names = ("VROOM_HOME", "VROOM_DATA", "DAGSTER_HOME", BALLAST)
    given = {name: os.environ[name] for name in names if name in os.environ}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=execute, args=(stage, fate, given))
    process.start()
    process.join(PATIENCE)
    return process.exitcode


def half_written(home: Path) -> list[str]:
    """What a writer would have renamed, had it come to its end."""
    return sorted(
        str(path.relative_to(home))
        for path in (home / NAME).rglob(".*")
        if path.name not in (".publish.lock",) and not path.name.endswith(".copy")
    )
