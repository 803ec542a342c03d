"""When the monitoring of a forecast runs: once a window has closed in which there is anything new.

Until a window closes a tick reads nothing, and then it asks the serving database one question. It opens no warehouse.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec
import sqlalchemy as sa

from vroom_api.contract import forecast_folder, read_pointer
from vroom_api.contract.benchmark import is_no_benchmark
from vroom_api.contract.blocks import expand_blocks
from vroom_api.contract.decoding import decode
from vroom_api.contract.ids import first_id
from vroom_api.contract.tables import outcomes, predictions, serving_database
from vroom_assets.forecast.names import FORECAST_TAG, QUIET, REASON_TAG
from vroom_assets.forecast.sensors import DAEMON_LATE_SECONDS, latest_run, pause
from vroom_assets.forecast.source_assets import observation_path
from vroom_assets.spec import ForecastSpec

GRACE_SECONDS = 5.0  # after a window's end, for what was answered in it to be committed
LATE_SECONDS = 60.0  # that a row may be committed after the moment of its id
LONGEST_INTERVAL_SECONDS = 30  # between two ticks: what a window has is known a minute after it has closed


class Cursor(msgspec.Struct, frozen=True):
    """What the sensor remembers between two ticks; times are seconds since 1970."""

    until: float = 0.0  # the end of the latest closed window that was seen to
    loaded: str = ""  # the data version whose tables were there then
    any_rows: bool = False  # whether there ever was a prediction or an outcome
    settled: bool = True  # whether what was asked for was seen to be done
    asked_at: float = 0.0
    requests: int = 0  # for it so far
    generation: int = 0  # runs asked for so far


@dataclass(frozen=True)
class System:
    """What a tick asks about, the dearer ones last.

    serves: whether there is a champion. done_until: the end of the last window that was summarized. loaded: the data version whose
    tables are there; "" where it is not known. is_new: whether there are predictions or outcomes since a time. run: the id of
    a run of the forecast that is under way.
    """

    serves: Callable[[], bool]
    done_until: Callable[[], float]
    loaded: Callable[[], str]
    is_new: Callable[[float], bool]
    run: Callable[[], str | None]


@dataclass(frozen=True)
class Tick:
    cursor: Cursor
    reason: str
    runs: bool = False


def decide(cursor: Cursor, window_seconds: float, system: System, now: float) -> Tick:
    """Decide whether the monitoring has to run.

    Args:
        now: the time, in seconds since 1970.
    """
    if not cursor.settled:
        if system.done_until() >= cursor.until:
            cursor = msgspec.structs.replace(cursor, settled=True, requests=0)
        elif now < (due := cursor.asked_at + pause(cursor.requests)):
            return Tick(
                cursor, f"a run was requested; looks in {due - now:.0f} s whether it has come to its end"
            )
        elif (run := system.run()) is not None:
            return Tick(cursor, f"a run was requested, and run {run} is under way")
        else:
            return _ask(
                cursor, cursor.until, now, "a run was requested and did not come to its end: once more"
            )
    end = (now - GRACE_SECONDS) // window_seconds * window_seconds
    if end <= cursor.until:
        closes = cursor.until + window_seconds + GRACE_SECONDS - now
        return Tick(cursor, f"the window is open for another {closes:.0f} s")
    if not system.serves():
        return Tick(cursor, "no champion serves yet")
    loaded = system.loaded() or cursor.loaded
    is_new = system.is_new(cursor.until)
    changed = loaded != cursor.loaded
    after = msgspec.structs.replace(cursor, loaded=loaded, any_rows=cursor.any_rows or is_new)
    if not is_new and not (changed and after.any_rows):
        return Tick(
            msgspec.structs.replace(after, until=end), f"nothing was predicted or observed until {_at(end)}"
        )
    if (run := system.run()) is not None:
        return Tick(cursor, f"waits: a window has closed, and run {run} is still under way")
    reason = (
        "there are new predictions or outcomes" if is_new else "the sources have changed, outcomes may follow"
    )
    return _ask(after, end, now, f"a window has closed at {_at(end)}, and {reason}")


def _ask(cursor: Cursor, until: float, now: float, reason: str) -> Tick:
    after = msgspec.structs.replace(
        cursor,
        until=until,
        settled=False,
        asked_at=now,
        requests=cursor.requests + 1,
        generation=cursor.generation + 1,
    )
    return Tick(after, reason, runs=True)


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def is_new(forecast: str, since: float) -> bool:
    """Whether anything was predicted or reported since a time."""
    after = first_id(datetime.fromtimestamp(max(since - LATE_SECONDS, 0.0), UTC))
    asked = sa.or_(
        sa.exists().where(predictions.c.id >= after, predictions.c.forecast == forecast, is_no_benchmark()),
        sa.exists().where(outcomes.c.id >= after, outcomes.c.forecast == forecast),
    )
    with serving_database() as engine:
        expand_blocks(engine)
        with engine.connect() as connection:
            return bool(connection.scalar(sa.select(asked)))


def loaded_version(spec: ForecastSpec) -> str:
    """The data version of the files as they were observed last, if its tables are there; else ""."""
    from vroom_assets import sources
    from vroom_assets.features.table import parquet_path

    seen = {name: sources.kept(observation_path(spec, name)) for name in spec.sources}
    contents = {name: one.sha256 for name, one in seen.items() if one is not None}
    if len(contents) < len(seen):
        return ""
    version = spec.data_version(contents)
    return version if parquet_path(spec.name, version).exists() else ""


def _serves(forecast: str) -> bool:
    if not forecast_folder(forecast).exists():
        return False
    pointer = read_pointer(forecast)
    return pointer is not None and pointer.retired is None


def read_cursor(text: str | None) -> Cursor:
    """A cursor as it was left; one that cannot be read begins anew, which costs one run."""
    try:
        return decode(text or "{}", Cursor)
    except msgspec.MsgspecError:
        return Cursor()


def interval_seconds(window_minutes: float) -> int:
    """Seconds between two ticks: a window that is short is seen to in time."""
    return int(min(LONGEST_INTERVAL_SECONDS, max(window_minutes * 60 / 4, 5)))


def monitoring_sensor(spec: ForecastSpec, job: Any) -> dg.SensorDefinition:
    """Runs the monitoring when a window has closed with anything new in it."""
    window = timedelta(minutes=spec.monitoring.window_minutes).total_seconds()

    @dg.sensor(
        name=f"{spec.name}_monitoring",
        job=job,
        minimum_interval_seconds=max(
            interval_seconds(spec.monitoring.window_minutes) - DAEMON_LATE_SECONDS, 1
        ),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Runs the monitoring when a window has closed with new predictions or outcomes, or when the sources have changed "
            "since. Each tick that starts no run says why."
        ),
    )
    def monitoring(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from vroom_assets.monitoring import progress

        def run_under_way() -> str | None:
            run = latest_run(context.instance, spec.name)
            return run.id if run is not None and run.under_way else None

        tick = decide(
            read_cursor(context.cursor),
            window,
            System(
                serves=lambda: _serves(spec.name),
                done_until=lambda: progress.read(spec.name).closed_until,
                loaded=lambda: loaded_version(spec),
                is_new=lambda since: is_new(spec.name, since),
                run=run_under_way,
            ),
            time.time(),
        )
        text = msgspec.json.encode(tick.cursor).decode()
        if not tick.runs:
            return dg.SensorResult(skip_reason=tick.reason, cursor=text)
        request = dg.RunRequest(
            run_key=f"{spec.name}-monitor-{tick.cursor.generation}-{tick.cursor.until:.0f}",
            run_config=QUIET,
            tags={FORECAST_TAG: spec.name, REASON_TAG: tick.reason},
        )
        return dg.SensorResult(run_requests=[request], cursor=text)

    return monitoring
