"""The automation watched by its ticks: what stands still is started again, whatever its processes look like."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import honcho.process

from vroom_api.contract import home
from vroom_api.contract.heartbeat import HEARTBEAT, Heartbeat, latest_beat

PATIENCE_SECONDS = 60.0
STARTS_WITHIN_SECONDS = 120.0  # the first tick of a start on a busy machine
MISSED_CHECKS = 3  # of sensors that check seldom
LOOKS_EVERY_SECONDS = 5.0
RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "vroom") { __typename } }'
SENSORS = """{
    sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "vroom"}) {
        ... on Sensors { results { name sensorState { status } } }
    }
}"""

LOG_LINE = re.compile(rb"(\x1b\[\d+m)*\d{4}-\d\d-\d\d ")
# The run is queued again, or its forecast's sensor asks for another; the whole trace is on the run's page.
HEALS_BY_ITSELF = b"Caught an error dequeuing run"


class Remedy(NamedTuple):
    """What may bring ticks back, and what it is called."""

    name: str
    apply: Callable[[], None]


class RestartableProcess(honcho.process.Process):
    """A process of the supervisor that may be started again without the others ending with it."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._again = multiprocessing.Event()
        self._group = multiprocessing.Value("i", 0)
        self._leaves_out = False  # the lines under a log line that is enough by itself

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        super().run(events, ignore_signals)
        while self._again.is_set():
            self._again.clear()
            super().run(events, ignore_signals)

    def restart(self) -> None:
        """End it with all that it started, and start it again."""
        self._again.set()
        if self._group.value:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself, and is started again
                os.killpg(self._group.value, signal.SIGKILL)

    def _send_message(self, data: Any, type: str = "line") -> None:
        if type == "line":
            begins = LOG_LINE.match(data) is not None
            if self._leaves_out and not begins:
                return
            self._leaves_out = begins and HEALS_BY_ITSELF in data
        if type == "start":
            self._group.value = data["pid"]
        if type != "stop" or not self._again.is_set():
            super()._send_message(data, type)


class Watchdog:
    """Applies one remedy after the other while no sensor ticks, each once, and all again after the next tick.

    Times are those of a clock that stands still while the machine sleeps.

    Args:
        began: from when on ticks are expected.
        is_stopped: whether somebody stopped the sensors, so that there is nothing to remedy.
    """

    def __init__(
        self, remedies: Sequence[Remedy], began: float, is_stopped: Callable[[], bool] = lambda: False
    ):
        self._remedies = remedies
        self._is_stopped = is_stopped
        self._applied = 0
        self._newest = 0.0
        self._since = began  # then the latest tick, or remedy

    def look(self, beats: Sequence[Heartbeat], now: float) -> Remedy | None:
        """What to do now; None where a tick came lately, where there never was one, and where nothing is left to do."""
        newest = max((one.checked_at for one in beats), default=0.0)
        if newest != self._newest:
            self._newest, self._since, self._applied = newest, max(now, self._since), 0
        if not beats or self._applied == len(self._remedies):
            return None
        patience = max(PATIENCE_SECONDS, MISSED_CHECKS * min(one.every_s for one in beats))
        if now - self._since <= patience:
            return None
        self._since = now
        if self._is_stopped():
            return None
        self._applied += 1
        return self._remedies[self._applied - 1]


def watch(dagster: str, code: RestartableProcess, daemon: RestartableProcess) -> None:
    """Watch until the process ends.

    Args:
        dagster: the URL of its pages.
    """
    remedies = [
        Remedy("the code server was loaded again", partial(reload, dagster, code)),
        Remedy("Dagster's daemon was started again", daemon.restart),
    ]
    watchdog = Watchdog(
        remedies, time.monotonic() + STARTS_WITHIN_SECONDS, partial(sensors_are_stopped, dagster)
    )
    while True:
        time.sleep(LOOKS_EVERY_SECONDS)
        found = beats()
        if remedy := watchdog.look(list(found.values()), time.monotonic()):
            remedy.apply()
            reason = f"no sensor ticked for a minute: {remedy.name}"
            print(f"Automation stood still: {reason}.", flush=True)
            enter(list(found), reason)


def beats() -> dict[str, Heartbeat]:
    """The latest heartbeat of every forecast that ever had one."""
    names = [path.parent.name for path in home().glob(f"*/{HEARTBEAT}")]
    return {name: beat for name in names if (beat := latest_beat(name)) is not None}


def sensors_are_stopped(dagster: str) -> bool:
    """Whether somebody stopped every sensor of sources on Dagster's pages; False where these do not answer."""
    found = _asked(dagster, SENSORS)
    states = [
        one["sensorState"]["status"]
        for one in (found or {}).get("sensorsOrError", {}).get("results", [])
        if one["name"].endswith("_sources")
    ]
    return bool(states) and set(states) == {"STOPPED"}


def _asked(dagster: str, query: str) -> dict[str, Any] | None:
    """What Dagster answers; None where it does not."""
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{dagster}/graphql", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # our own  # nosec B310
            data: dict[str, Any] | None = json.load(answer)["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return data


def reload(dagster: str, code: RestartableProcess) -> None:
    """Have Dagster start the process of the definitions anew; where it cannot, start the whole code server anew."""
    done = _asked(dagster, RELOAD) or {}
    if done.get("reloadRepositoryLocation", {}).get("__typename") != "WorkspaceLocationEntry":
        code.restart()


def enter(forecasts: Sequence[str], reason: str) -> None:
    """Enter it in the ledger, in a process of its own: the supervisor stays small."""
    process = multiprocessing.get_context("spawn").Process(target=_enter, args=(list(forecasts), reason))
    process.start()
    process.join()


def _enter(forecasts: list[str], reason: str) -> None:
    from vroom_api.contract.events import AutomationRestarted, Decision
    from vroom_api.contract.tables import enter_ledger, serving_database

    with serving_database() as engine:
        for forecast in forecasts:
            enter_ledger(
                engine,
                forecast=forecast,
                actor="supervisor",
                decision=Decision.RESTARTED,
                reason=reason,
                evidence=AutomationRestarted(),
            )
