"""What a service has loaded is announced beside its work, and announced again until the database has it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.bundles import FORECAST, publish
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract.event_log import events_after
from vroom_api.contract.tables import open_database
from vroom_api.feed.announcing import Announcer


def log(engine: sa.Engine) -> list[tuple[str, Any]]:
    with engine.connect() as connection:
        return [(event.name, event.data["version"]) for event in events_after(connection, 0, 100)]


async def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


def test_each_version_is_announced_once_by_however_many_services(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")

    async def scenario() -> None:
        announcers = [Announcer(lambda: engine) for _ in range(2)]
        watches = [ChampionWatch(FORECAST, tmp_path, 1.0, loaded=one.loaded) for one in announcers]
        async with announcers[0].running(), announcers[1].running():
            for version in (1, 2, 1):
                publish(tmp_path, version)
                await asyncio.gather(*(watch.reload() for watch in watches))
                await asyncio.gather(*(watch.reload() for watch in watches))
            await until(lambda: len(log(engine)) == 3)

    asyncio.run(scenario())
    assert log(engine) == [("model-loaded", 1), ("model-loaded", 2), ("model-loaded", 1)]
    engine.dispose()


def test_a_database_that_is_away_holds_up_no_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")
    away = [True]

    def database() -> sa.Engine:
        if away:
            raise sa.exc.OperationalError("", {}, Exception("it is away"))
        return engine

    async def scenario() -> None:
        announcer = Announcer(database)
        watch = ChampionWatch(FORECAST, tmp_path, 1.0, loaded=announcer.loaded)
        async with announcer.running():
            for version in (1, 2):
                publish(tmp_path, version)
                assert (await watch.reload()).status == "reloaded"
            await until(lambda: "could not be announced" in caplog.text)
            assert log(engine) == []
            away.clear()
            await until(lambda: len(log(engine)) == 2)

    asyncio.run(scenario())
    assert log(engine) == [("model-loaded", 1), ("model-loaded", 2)]
    engine.dispose()
