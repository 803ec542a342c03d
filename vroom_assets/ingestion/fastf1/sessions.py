"""The asset of an ingestion: asked for races and sprints, it writes their laps into a forecast's CSV.

It runs when somebody asks for it and at no other time. The forecast's sensor takes up the file when it has
changed, as it does whoever changed it.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import dagster as dg
from pydantic import ConfigDict, Field

from vroom_assets import settings
from vroom_assets.ingestion import WRITES
from vroom_assets.retries import retried

if TYPE_CHECKING:
    from vroom_assets.ingestion.fastf1.laps import Session

GROUP = "ingestion"  # not that of the forecast: what needs a season as its config is not in "Materialize all"


class Sessions(dg.Component, dg.Model, dg.Resolvable):
    """Laps of races and sprints, read through the FastF1 client into the CSV of a forecast's source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    forecast: str = Field(description="whose asset it is: prefix of its key")
    owner: str = Field(description="an e-mail address or `team:<name>`")
    path: str = Field(description="CSV file of the laps, relative to the data folder")
    known_after_seconds: float = Field(
        5, ge=0, le=3_600, description="when a lap counts as known after its end; the client does not say"
    )
    retries: int = Field(3, ge=0, le=10, description="of a run that did not reach the services")
    retry_seconds: float = Field(
        20, ge=0, le=300, description="before the first retry; then 3 times as long, then 7 times"
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(assets=[sessions_asset(self)])


class SessionsToRead(dg.Config):
    """Which sessions are read."""

    season: int | None = Field(
        None,
        ge=2019,
        le=2100,
        description="from 2019 on tyres have the names that laps.csv knows; without one nothing is read",
    )
    rounds: list[Annotated[int, Field(ge=1, le=40)]] = Field(
        [], max_length=40, description="of the season; none are all that are over"
    )
    races: bool = True
    sprints: bool = True
    alone: bool = Field(False, description="take all other sessions out of the file, the generated ones too")
    renew: bool = Field(
        False, description="forget what the client has kept: corrections come so, and all is read again"
    )


def sessions_asset(declared: Sessions) -> dg.AssetsDefinition:
    policy = dg.RetryPolicy(
        max_retries=declared.retries, delay=declared.retry_seconds, backoff=dg.Backoff.EXPONENTIAL
    )

    @dg.asset(
        key=[declared.forecast, "sessions"],
        description=(
            "Races and sprints read through the FastF1 client, when it is asked to and there is a network; "
            f"their laps are in `{declared.path}` of the data folder. Reading a session again replaces its laps."
        ),
        group_name=GROUP,
        owners=[declared.owner],
        kinds={"fastf1", "csv"},
        metadata={WRITES: declared.path},
        pool=f"{declared.forecast}_sessions",
    )
    def sessions(context: dg.AssetExecutionContext, config: SessionsToRead) -> dg.MaterializeResult:
        from vroom_assets.ingestion.fastf1 import client, laps, merge

        with retried(context, policy):
            try:
                return dg.MaterializeResult(metadata=read(declared, config, context))
            except (client.Unreachable, laps.SessionIncomplete, merge.FileChanged) as error:
                raise dg.Failure(description=str(error)) from error
            except (client.ClientMissing, client.RateExceeded, merge.FileRefused, NothingToRead) as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error

    return sessions


class NothingToRead(Exception):
    """The calendar has no such session, or it is not over yet."""


def read(declared: Sessions, config: SessionsToRead, context: dg.AssetExecutionContext) -> dict[str, Any]:
    """Read all that is asked for, then write it in one step; returns what the asset's page shows."""
    from vroom_assets.ingestion.fastf1.client import Client
    from vroom_assets.ingestion.fastf1.laps import rows_of, sessions_of
    from vroom_assets.ingestion.fastf1.merge import merge

    if config.season is None:
        context.log.info("no season is asked for, so nothing is read: set `season` in the launchpad")
        return {"sessions_read": 0}
    began = time.monotonic()
    # A retry goes on from what the first try has read.
    client = Client(settings.fastf1_cache(), renew=config.renew and context.retry_number == 0)
    due = sessions_due(sessions_of(client.calendar(config.season), config.season), config)
    known_after = timedelta(seconds=declared.known_after_seconds)
    circuits, tables, left_out = [], [], dict[str, int]()
    for session in due:
        recording = client.record(session)
        rows = rows_of(recording, known_after)
        context.log.info(
            f"{session}, {recording.circuit}: {len(rows.table)} laps, left out: {rows.left_out or 'none'}"
        )
        circuits.append(recording.circuit)
        tables.append(rows.table)
        for reason, count in rows.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    merged = merge(settings.data_folder() / declared.path, tables, alone=config.alone)
    overview = [
        f"| {session.number} | {circuit} | {session.name} | {len(table)} |"
        for session, circuit, table in zip(due, circuits, tables, strict=True)
    ]
    return {
        "dagster/row_count": len(merged.table),
        "sessions_read": len(due),
        "laps_read": sum(map(len, tables)),
        "laps_left_out": sum(left_out.values()),
        "laps_added": merged.added,
        "laps_changed": merged.changed,
        "laps_removed": merged.removed,
        "file_written": merged.written,
        "seconds": round(time.monotonic() - began, 1),
        "path": dg.MetadataValue.path(str(settings.data_folder() / declared.path)),
        "left_out": dg.MetadataValue.json(left_out),
        "sessions": dg.MetadataValue.md(
            "\n".join(["| round | circuit | session | laps |", "|---|---|---|---|", *overview])
        ),
        "sample": dg.MetadataValue.md(tables[-1].head(5).to_markdown(index=False)),
    }


def sessions_due(calendar: Sequence["Session"], config: SessionsToRead) -> list["Session"]:
    """What is asked for, all of it over.

    Raises:
        NothingToRead: a round that is asked for is none, or is not over yet; or nothing is left.
    """
    from vroom_assets.ingestion.fastf1.laps import over

    kinds = [kind for kind, wanted in (("Race", config.races), ("Sprint", config.sprints)) if wanted]
    wanted = [s for s in calendar if s.kind in kinds and (not config.rounds or s.number in config.rounds)]
    due = over(wanted, datetime.now(UTC).replace(tzinfo=None))
    if missing := sorted(set(config.rounds) - {session.number for session in wanted}):
        rounds = ", ".join(map(str, missing))
        raise NothingToRead(f"season {config.season} has nothing of what is asked for in round {rounds}")
    if config.rounds and len(due) < len(wanted):
        later = ", ".join(str(session) for session in wanted if session not in due)
        raise NothingToRead(f"{later} is not over yet; read it some hours after its end")
    if not due:
        raise NothingToRead(f"season {config.season} has nothing of what is asked for that is over")
    return due
