"""Fits in processes and on Dask's workers give what one core gives, and leave nothing behind, however they end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.support.project import ROOT
from vroom_api.contract.environment import BadSetting
from vroom_assets.spec import Candidate, Curve, Family, Kind, Validation
from vroom_assets.spec.candidates import Transform
from vroom_assets.training import mapped, parallel
from vroom_assets.training.folds import RowStructure, outer_splits
from vroom_assets.training.metrics import METRIC_SETS
from vroom_assets.training.models import CandidateError
from vroom_assets.training.parallel import Entry, WorkersGone, fit_splits
from vroom_assets.training.search import Search, search

VALIDATION = Validation(folds=3, repeats=1, inner_folds=2, seed=1)
FEATURES = ["x", "z", "idle"]
QUICK = {"max_iter": 20}
CANDIDATES = {
    "line": Candidate(family=Family.LINEAR, features=FEATURES, parameters={"alpha": [0.1, 10.0]}),
    "log_line": Candidate(family=Family.LINEAR, features=FEATURES, transform=Transform.LOG),
    "glm": Candidate(family=Family.POISSON_GLM, features=["x", "z"], terms=["x", "z", "x * z", "x ^ 2"]),
    "forest": Candidate(family=Family.FOREST, features=FEATURES, parameters={"n_estimators": 15}),
    "boosting": Candidate(family=Family.POISSON_BOOSTING, features=FEATURES, parameters=QUICK),
    "ebm": Candidate(
        family=Family.POISSON_EBM, features=FEATURES, parameters={"outer_bags": 2, "max_rounds": 40}
    ),
    "pair": Candidate(family=Family.AVERAGE, members=["line", "forest"]),
}
CHANCES = {
    "logistic": Candidate(family=Family.LOGISTIC, features=FEATURES),
    "boosting": Candidate(
        family=Family.BINARY_BOOSTING, features=FEATURES, parameters=QUICK, calibration=Curve.SIGMOID
    ),
}
SLOW = {"slow": Candidate(family=Family.FOREST, features=FEATURES, parameters={"n_estimators": 3_000})}


def world(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(rng.uniform(size=(rows, 3)), columns=FEATURES)
    return frame, rng.poisson(np.exp(frame["x"] + frame["z"] ** 2)).astype(float) + 1


@pytest.fixture
def spread(home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes for whatever is to be fitted."""
    monkeypatch.setenv("VROOM_TRAINING_CORES", "2")
    monkeypatch.setattr(parallel, "WORTH_SECONDS", -1.0)


def workers(of: int | None = None) -> list[psutil.Process]:
    """The processes that fit for a process, by default this one."""
    found = []
    for child in psutil.Process(of).children(recursive=True):
        try:
            if "popen_loky" in " ".join(child.cmdline()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def assert_equal(one: Search, other: Search) -> None:
    pd.testing.assert_frame_equal(one.out_of_fold, other.out_of_fold, check_exact=True)
    pd.testing.assert_frame_equal(one.fold_metrics, other.fold_metrics, check_exact=True)
    pd.testing.assert_frame_equal(one.standings, other.standings, check_exact=True)
    pd.testing.assert_frame_equal(one.choice.compared, other.choice.compared, check_exact=True)
    np.testing.assert_array_equal(one.nested, other.nested)
    assert one.nested_choices == other.nested_choices
    assert one.importances == other.importances
    assert (one.chosen, one.choice.why) == (other.chosen, other.choice.why)
    assert (one.fitted is None) == (other.fitted is None)


Searched = tuple[list[Search], list[list[str]]]


def searched() -> Searched:
    """Every kind of search, and its messages without the seconds in them."""
    found, messages = [], []
    few, many = world(300), world(21_000)
    yes = (few[0], (few[1] > np.median(few[1])).astype(float))
    groups = RowStructure(300, groups=np.arange(300) // 3)
    glms = {name: CANDIDATES[name] for name in ("line", "glm", "boosting")}
    for (frame, target), candidates, kind, rows in [
        (few, CANDIDATES, Kind.REGRESSION, None),
        (few, glms, Kind.COUNT, groups),
        (yes, CHANCES, Kind.BINARY, None),
        (many, glms, Kind.REGRESSION, None),
    ]:
        log: list[str] = []
        found.append(search(frame, target, candidates, VALIDATION, METRIC_SETS[kind], log.append, rows))
        messages.append([line.split(" s, ")[-1].split("; then")[0] for line in log])
    return found, messages


@pytest.fixture(scope="module")
def on_one_core(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VROOM_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("VROOM_TRAINING_CORES", "1")
        return searched()


@pytest.mark.slow
def test_processes_find_what_one_core_finds(on_one_core, spread, home):
    found, messages = searched()
    assert len(workers()) == 2
    for one, other in zip(on_one_core[0], found, strict=True):
        assert_equal(one, other)
    assert messages == on_one_core[1]
    assert [path.name for path in (home / mapped.FOLDER).iterdir()] == [mapped.LOCK]


@contextmanager
def cluster() -> Iterator[str]:
    """The address of a Dask scheduler with two workers."""
    distributed = pytest.importorskip("distributed", reason="Dask is an extra, which is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, protocol="tcp://"
    ) as local:
        yield local.scheduler_address


@pytest.mark.slow
def test_dasks_workers_find_what_one_core_finds(on_one_core, spread, monkeypatch):
    with cluster() as address:
        monkeypatch.setenv("VROOM_DASK", address)
        found, messages = searched()
    for one, other in zip(on_one_core[0], found, strict=True):
        assert_equal(one, other)
    assert messages == on_one_core[1]


def fitted(candidates: dict[str, Candidate], rows: int = 400) -> list[dict[str, parallel.Fit]]:
    frame, target = world(rows)
    structure = RowStructure(rows)
    entries = [Entry(split, candidates) for split in outer_splits(structure, VALIDATION)]
    return list(fit_splits(entries, frame, target, structure, VALIDATION))


BROKEN = {
    "good": CANDIDATES["line"].model_copy(update={"parameters": {}}),
    "first": Candidate(family=Family.FOREST, features=["x"], parameters={"n_estimators": -1}),
    "second": Candidate(family=Family.LINEAR, features=["unknown"]),
}


@pytest.mark.slow
@pytest.mark.usefixtures("spread")
def test_an_error_is_that_of_one_core(monkeypatch, home):
    messages = []
    for cores in ("1", "2"):
        monkeypatch.setenv("VROOM_TRAINING_CORES", cores)
        with pytest.raises(CandidateError) as caught:
            fitted(BROKEN)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("candidate first (forest) cannot be fitted")
    assert [path.name for path in (home / mapped.FOLDER).iterdir()] == [mapped.LOCK]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("spread")
def test_a_killed_process_is_a_clear_error_and_the_next_fits_work(home):
    def kill_one() -> None:
        wait_for(lambda: any(one.cpu_times().user > 2 for one in workers()))
        workers()[0].kill()

    threading.Thread(target=kill_one).start()
    with pytest.raises(WorkersGone, match="ended from outside, as when memory runs out: set VROOM_TRAINING"):
        fitted(SLOW, 4_000)
    wait_for(lambda: not workers())
    assert [path.name for path in (home / mapped.FOLDER).iterdir()] == [mapped.LOCK]
    assert len(fitted({"line": BROKEN["good"]})) == VALIDATION.folds


@pytest.mark.slow
@pytest.mark.usefixtures("spread")
def test_who_asks_for_no_more_leaves_nothing_running(home):
    frame, target = world(4_000)
    rows = RowStructure(4_000)
    quick_first = [{"line": BROKEN["good"]}, *[SLOW] * 2]
    entries = [
        Entry(split, one) for split, one in zip(outer_splits(rows, VALIDATION), quick_first, strict=True)
    ]
    found = fit_splits(entries, frame, target, rows, VALIDATION)
    assert set(next(found)) == {"line"}
    found.close()  # type: ignore[attr-defined]
    wait_for(lambda: not workers())
    assert [path.name for path in (home / mapped.FOLDER).iterdir()] == [mapped.LOCK]


START = """
from tests.vroom_assets.training import test_parallel
from vroom_assets.training import models, parallel
"""
FITS = "parallel.WORTH_SECONDS = -1.0; test_parallel.fitted(test_parallel.SLOW, 20_000)"
ONE_FIT = "models.MANY_ROWS = 100; test_parallel.fitted({'ebm': test_parallel.LONG}, 40_000)"
LONG = Candidate(
    family=Family.POISSON_EBM,
    features=FEATURES,
    parameters={"outer_bags": 4, "max_rounds": 100_000, "early_stopping_rounds": 0, "interactions": 0},
)


@pytest.mark.slow
@pytest.mark.parametrize("what", [FITS, ONE_FIT], ids=["fits", "one fit"])
def test_a_killed_run_leaves_no_process_and_no_file(home, what):
    environment = os.environ | {"VROOM_TRAINING_CORES": "2", "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, "-c", START + what], env=environment, cwd=ROOT)
    wait_for(lambda: len([one for one in workers(run.pid) if one.cpu_times().user > 2]) == 2)
    busy = workers(run.pid)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(busy, timeout=20)
    assert alive == []
    mapped.sweep()
    assert list(home.glob(f"{mapped.FOLDER}/*/")) == []


@pytest.mark.slow
@pytest.mark.usefixtures("spread")
def test_a_scheduler_that_is_not_there_is_a_clear_error(monkeypatch):
    pytest.importorskip("distributed", reason="Dask is an extra, which is not installed")
    monkeypatch.setattr(parallel, "CONNECT_SECONDS", 1)
    monkeypatch.setenv("VROOM_DASK", "tcp://127.0.0.1:1")
    with pytest.raises(WorkersGone, match=r"^VROOM_DASK='tcp://127\.0\.0\.1:1': its scheduler"):
        fitted({"line": BROKEN["good"]})


@pytest.mark.usefixtures("spread")
def test_without_the_extra_a_scheduler_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)  # as where it is not installed
    monkeypatch.setenv("VROOM_DASK", "tcp://127.0.0.1:1")
    with pytest.raises(BadSetting, match=r"run pip install 'vroom\[dask\]'"):
        fitted({"line": BROKEN["good"]})


def test_few_rows_start_no_process(home, monkeypatch):
    monkeypatch.setenv("VROOM_TRAINING_CORES", "2")
    before = workers()
    assert len(fitted({"line": BROKEN["good"]}, 60)) == VALIDATION.folds
    assert workers() == before
    assert not (home / mapped.FOLDER).exists()


def test_an_average_is_that_of_its_members(home):
    for fits in fitted({name: CANDIDATES[name] for name in ("glm", "forest")} | {"pair": PAIR}, 60):
        expected = np.mean([fits["glm"].prediction, fits["forest"].prediction], axis=0)
        np.testing.assert_array_equal(fits["pair"].prediction, expected)


PAIR = Candidate(family=Family.AVERAGE, members=["glm", "forest"])


ON_ONE_CORE = """
import sys
from tests.vroom_assets.training import test_parallel
test_parallel.fitted({"line": test_parallel.BROKEN["good"]})
print([one for one in ("distributed", "dask") if one in sys.modules])
"""


def test_on_one_core_dask_is_not_imported(home):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VROOM_TRAINING_CORES": "1"}
    command = [sys.executable, "-c", ON_ONE_CORE]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
