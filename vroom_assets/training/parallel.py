"""Fits of candidate × fold: one after the other, in processes, or on the workers of a Dask scheduler.

The numbers are the same to the last bit: each fit sees the same rows in the same order, has one thread wherever it is made,
and what is found is put together in the declared order.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from vroom_api.contract.environment import BadSetting
from vroom_assets import settings
from vroom_assets.spec import Candidate, Family, Validation
from vroom_assets.training import mapped, pace
from vroom_assets.training.fitting import average_of, fit_one
from vroom_assets.training.folds import RowStructure, Split
from vroom_assets.training.models import Average, Fitted, one_core
from vroom_assets.training.workers import processes

# Of fits that one core still has to make. Below, the start of the processes takes longer than the second core saves: on two
# cores 14 fits of 3.6 s took 4.7 s in two new processes, 5.3 s 5.5 s, 7.2 s 6.5 s and 15.0 s 11.7 s (benchmarks/fits.py).
WORTH_SECONDS = 6.0
CONNECT_SECONDS = 10  # that a scheduler, and then its workers, may take to answer


class WorkersGone(Exception):
    """Who was to fit candidates is not there, or not any more; the message says what to do."""


class Fit(NamedTuple):
    """What one fit found: predictions of the split's test rows, (test rows,), the model where it was asked for, and how
    long it took."""

    prediction: np.ndarray
    model: Fitted | None
    seconds: float


class _Failed(NamedTuple):
    """Why a fit failed. It is raised when it is its turn, so that of several errors the first in order is reported."""

    error: Exception


class Entry(NamedTuple):
    """Candidates that are to be fitted on the training rows of a split."""

    split: Split
    candidates: Mapping[str, Candidate]


@dataclass(frozen=True)
class Rows:
    """What all fits read.

    frame: features, float64. target: shape (rows,). groups: shape (rows,), None where rows are independent.
    """

    frame: pd.DataFrame
    target: np.ndarray
    groups: np.ndarray | None
    splits: Sequence[Split]
    seed: int


Spread: TypeAlias = Generator[Fit | _Failed, None, None]


class _Task(NamedTuple):
    split: int
    name: str
    candidate: Candidate
    key: str  # of its pace
    rows: int  # it is fitted on
    with_model: bool


def fit_splits(
    entries: Sequence[Entry],
    frame: pd.DataFrame,
    target: np.ndarray,
    rows: RowStructure,
    validation: Validation,
    with_models: bool = False,
) -> Iterator[dict[str, Fit]]:
    """Fit and predict; of each entry in turn what was found, by candidate, as soon as it is there.

    Args:
        frame: features, float64. target: shape (rows,). rows: their groups.

    Raises:
        CandidateError: a candidate that cannot be fitted.
        WorkersGone: a process or a worker of the scheduler ended before it was done.
    """
    tasks = [
        _Task(number, name, candidate, pace.key_of(candidate), len(split.train), with_models)
        for number, (split, candidates) in enumerate(entries)
        for name, candidate in candidates.items()
        if candidate.family is not Family.AVERAGE
    ]
    found = _fits(Rows(frame, target, rows.groups, [one.split for one in entries], validation.seed), tasks)
    try:
        for _, candidates in entries:
            alone = {
                name: next(found)
                for name, candidate in candidates.items()
                if candidate.family is not Family.AVERAGE
            }
            yield {
                name: _mean(average_of(name, candidate, alone), alone)
                if candidate.family is Family.AVERAGE
                else alone[name]
                for name, candidate in candidates.items()
            }
    finally:
        found.close()


def _mean(members: Sequence[str], alone: Mapping[str, Fit]) -> Fit:
    """An average, of predictions that are there already."""
    models = [alone[member].model for member in members]
    fitted = [model for model in models if model is not None]
    prediction = np.mean([alone[member].prediction for member in members], axis=0)
    return Fit(prediction, Average(fitted) if len(fitted) == len(members) else None, 0.0)


def _fits(rows: Rows, tasks: Sequence[_Task]) -> Generator[Fit, None, None]:
    """The fits in order: here, until those that are left are worth being spread."""
    done = 0
    for fit in _here(rows, tasks):
        done += 1
        yield fit
    rest = tasks[done:]
    if not rest:
        return
    scheduler = settings.dask_scheduler()
    spread = _in_processes(rows, rest) if scheduler is None else _on_dask(scheduler, rows, rest)
    with closing(spread):
        for task, found in zip(rest, spread, strict=True):
            if isinstance(found, _Failed):
                raise found.error
            pace.note(task.key, task.rows, found.seconds)
            yield found


def _here(rows: Rows, tasks: Sequence[_Task]) -> Iterator[Fit]:
    """One fit after the other, on one core, as long as all that are left are not worth being spread.

    Threads do not help: fits of some hundred rows go in and out of the interpreter's lock so often that two
    of them side by side take longer than one after the other, and twice the processor time (measured:
    3.4 s for four fits of all candidates in a row, 3.6-6.1 s in two threads). The other cores serve meanwhile.
    """
    from threadpoolctl import threadpool_limits

    may_spread = settings.dask_scheduler() is not None or settings.training_cores() > 1
    with threadpool_limits(1):
        for number, task in enumerate(tasks):
            if may_spread and _is_worth_spreading(tasks[number:]):
                return
            yield _fit(rows, task)


def _is_worth_spreading(tasks: Sequence[_Task]) -> bool:
    return len(tasks) > 1 and sum(pace.expected(task.key, task.rows) for task in tasks) > WORTH_SECONDS


def _fit(rows: Rows, task: _Task) -> Fit:
    split, began = rows.splits[task.split], time.monotonic()
    groups = None if rows.groups is None else rows.groups[split.train]
    model = fit_one(
        task.name, task.candidate, rows.frame.iloc[split.train], rows.target[split.train], rows.seed, groups
    )
    seconds = time.monotonic() - began
    return Fit(model.predict(rows.frame.iloc[split.test]), model if task.with_model else None, seconds)


def _in_processes(rows: Rows, tasks: Sequence[_Task]) -> Spread:
    from joblib import Parallel, delayed

    with mapped.shared(rows) as path:
        with processes():
            cores = min(settings.training_cores(), len(tasks))
            pool = Parallel(cores, return_as="generator", batch_size=1, max_nbytes=None)
        try:
            yield from _closed(pool(delayed(_fit_mapped)(path, task) for task in tasks))
        except BrokenProcessPool as error:
            raise WorkersGone(
                "a process that fitted candidates was ended from outside, as when memory runs out: set "
                "VROOM_TRAINING_CORES=1 to fit one after the other, or give the run more memory"
            ) from error


def _on_dask(scheduler: str, rows: Rows, tasks: Sequence[_Task]) -> Spread:
    from joblib import Parallel, delayed, parallel_config

    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise BadSetting(
            f"VROOM_DASK={scheduler!r}: Dask is not installed; run pip install 'vroom[dask]', or leave it empty"
        ) from error
    try:
        with Client(scheduler, set_as_default=False, timeout=CONNECT_SECONDS) as client:
            with parallel_config(
                "dask", client=client, scatter=[rows], wait_for_workers_timeout=CONNECT_SECONDS
            ):
                pool = Parallel(-1, return_as="generator", batch_size=1)
            yield from _closed(pool(delayed(_fit_alone)(rows, task) for task in tasks))
    except (OSError, KilledWorker, CancelledError) as error:
        raise WorkersGone(
            f"VROOM_DASK={scheduler!r}: its scheduler or its workers do not answer, or ended while they fitted candidates, "
            f"as when memory runs out ({type(error).__name__}): start them, or leave it empty to fit on this machine"
        ) from error


def _closed(found: Spread) -> Spread:
    """As they come; what still runs ends when nobody asks for more."""
    try:
        for one in found:  # noqa: UP028  # `yield from` would close it before its warning is silenced
            yield one
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that some fits were not asked for
            found.close()


def _fit_mapped(path: Path, task: _Task) -> Fit | _Failed:
    return _fit_alone(mapped.read(path), task)


def _fit_alone(rows: Rows, task: _Task) -> Fit | _Failed:
    """A fit on one core of a process that makes nothing else, or other fits beside it."""
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)  # for good: else the fit that ends first would give those beside it more threads
    with one_core(), parallel_config("sequential"):  # a Dask worker would spread its trees again
        try:
            return _fit(rows, task)
        except Exception as error:
            error.add_note("".join(traceback.format_exception(error)))
            return _Failed(error)
