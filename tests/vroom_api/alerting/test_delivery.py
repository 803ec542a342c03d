"""Each change of an alert reaches each receiver once, in order, also one that was down."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support import databases
from tests.support.receivers import Hook, post_office, webhook
from tests.support.service import wait_for
from vroom_api.alerting.delivery import CLAIM, LONGEST_PAUSE, MAX_ATTEMPTS, NEWS, Delivery, pause_after
from vroom_api.alerting.receivers import Receiver, receivers_of
from vroom_api.contract.alerts import Severity, raise_alert, resolve_alert
from vroom_api.contract.tables import notifications

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DECAY: dict[str, Any] = {"forecast": "vans", "kind": "decay"}


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, time: timedelta) -> None:
        self.now += time


url, engine = databases.url, databases.engine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as found:
        yield found


def raised(engine: sa.Engine, clock: Clock, severity: Severity = Severity.WARNING, **given: Any) -> None:
    raise_alert(engine, **{"severity": severity, "message": "m", "now": clock()} | DECAY | given)


def over(engine: sa.Engine, clock: Clock) -> None:
    assert resolve_alert(engine, **DECAY, now=clock())


def delivery_of(engine: sa.Engine, *addresses: str) -> Delivery:
    return Delivery(lambda: engine, receivers_of(addresses), lambda name: f"https://vroom.example/{name}")


def test_every_change_is_sent_once_to_everybody_in_order(engine: sa.Engine, clock: Clock, hook: Hook) -> None:
    with post_office() as post:
        delivery = delivery_of(engine, hook.url(), post.url)
        raised(engine, clock)
        raised(engine, clock)
        assert delivery.deliver(clock) == 2
        raised(engine, clock, Severity.CRITICAL)
        over(engine, clock)
        assert delivery.deliver(clock) == 4
        assert delivery.deliver(clock) == 0
    titles = ["[warning] vans: decay", "[now critical] vans: decay", "[resolved] vans: decay"]
    assert hook.titles() == titles
    assert [letter["subject"] for letter in post.letters] == titles
    assert [body["link"] for body in hook.taken] == ["https://vroom.example/vans"] * 3


def test_a_receiver_that_is_down_is_sent_all_of_it_later_once_and_in_order(
    engine: sa.Engine, clock: Clock, hook: Hook
) -> None:
    hook.statuses = [503] * 3
    delivery = delivery_of(engine, hook.url())
    raised(engine, clock)
    assert delivery.deliver(clock) == 0
    over(engine, clock)
    assert delivery.deliver(clock) == 0
    assert hook.refused == 1  # the end is not sent before the beginning, which is not due
    for pause in (5, 10, 20):
        clock.passes(timedelta(seconds=pause - 1))
        assert delivery.deliver(clock) == 0
        clock.passes(timedelta(seconds=1))
        taken = delivery.deliver(clock)
    assert (taken, hook.refused) == (2, 3)
    assert hook.titles() == ["[warning] vans: decay", "[resolved] vans: decay"]
    assert delivery.deliver(clock) == 0


def test_one_receiver_that_is_down_holds_up_no_other(engine: sa.Engine, clock: Clock, hook: Hook) -> None:
    with webhook() as broken:
        broken.statuses = [500] * 9
        delivery = delivery_of(engine, broken.url(), hook.url())
        raised(engine, clock)
        assert delivery.deliver(clock) == 1
    assert len(hook.taken) == 1


def test_pauses_double_up_to_an_hour_for_about_a_week() -> None:
    pauses = [pause_after(attempts) for attempts in range(1, MAX_ATTEMPTS)]
    assert pauses[:3] == [timedelta(seconds=seconds) for seconds in (5, 10, 20)]
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE
    assert timedelta(days=6) < sum(pauses, timedelta()) < timedelta(days=8)


def test_a_receiver_that_never_takes_anything_is_given_up(
    engine: sa.Engine, clock: Clock, hook: Hook
) -> None:
    delivery = delivery_of(engine, hook.url())
    raised(engine, clock)
    hook.statuses = [500]
    delivery.deliver(clock)
    with engine.begin() as connection:
        connection.execute(
            notifications.update().where(notifications.c.receiver != "").values(attempts=MAX_ATTEMPTS)
        )
    clock.passes(timedelta(days=1))
    assert delivery.deliver(clock) == 0
    over(engine, clock)
    assert delivery.deliver(clock) == 1  # what comes after it is not held up


def test_what_waited_for_a_service_is_sent_but_not_what_is_long_over(
    engine: sa.Engine, clock: Clock, hook: Hook
) -> None:
    assert delivery_of(engine).deliver(clock) == 0
    raised(engine, clock)
    over(engine, clock)
    raised(engine, clock, kind="stale")
    clock.passes(NEWS)
    delivery = delivery_of(engine, hook.url())
    assert delivery.deliver(clock) == 1
    assert hook.titles() == ["[warning] vans: stale"]
    clock.passes(timedelta(days=3))  # while no service runs
    assert resolve_alert(engine, forecast="vans", kind="stale", now=clock())
    clock.passes(timedelta(days=3))
    assert delivery.deliver(clock) == 1
    assert hook.titles()[1:] == ["[resolved] vans: stale"]


def test_a_clock_that_is_set_back_delays_nothing_for_long(
    engine: sa.Engine, clock: Clock, hook: Hook
) -> None:
    raised(engine, clock)
    clock.passes(timedelta(days=-30))
    assert delivery_of(engine, hook.url()).deliver(clock) == 1


class Killed(BaseException):
    """As by SIGKILL: nothing after it is done."""


def test_a_claim_of_a_service_that_died_runs_out(engine: sa.Engine, clock: Clock, hook: Hook) -> None:
    (real,) = receivers_of([hook.url()])

    class Dying:
        digest, kind = real.digest, real.kind

        def send(self, _: Any) -> None:
            raise Killed

    raised(engine, clock)
    dying: list[Receiver] = [Dying()]
    with pytest.raises(Killed):
        Delivery(lambda: engine, dying).deliver(clock)
    delivery = delivery_of(engine, hook.url())
    assert delivery.deliver(clock) == 0
    clock.passes(CLAIM)
    assert delivery.deliver(clock) == 1


def test_what_is_stored_of_a_receiver_is_a_digest(engine: sa.Engine, clock: Clock, hook: Hook) -> None:
    hook.statuses = [500]
    raised(engine, clock)
    delivery_of(engine, hook.url("hidden-path")).deliver(clock)
    with engine.connect() as connection:
        stored = repr(connection.execute(sa.select(notifications)).all())
    assert "it answered 500" in stored
    assert "hidden" not in stored
    assert "127.0.0.1" not in stored


SENDING = """
import os, sys, time
from vroom_api.alerting.delivery import Delivery
from vroom_api.alerting.receivers import receivers_of
from vroom_api.contract.tables import open_database

engine = open_database(sys.argv[1])
delivery = Delivery(lambda: engine, receivers_of(sys.argv[2:]))
print("ready", flush=True)
sys.stdin.readline()
end, taken = time.monotonic() + 60, 0
while not os.path.exists(os.environ["DONE"]) and time.monotonic() < end:
    taken += delivery.deliver()
    time.sleep(0.01)
print(taken)
"""


def test_of_several_services_one_sends_each(engine: sa.Engine, hook: Hook, tmp_path: Path) -> None:
    done = tmp_path / "done"
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", SENDING, url, hook.url("a"), hook.url("b")]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    services = [subprocess.Popen(command, env=os.environ | {"DONE": str(done)}, **pipes) for _ in range(2)]
    for service in services:
        assert service.stdout.readline() == "ready\n"
    for number in range(30):
        raise_alert(engine, forecast="vans", kind=f"k{number}", severity=Severity.WARNING, message="m")
    for service in services:
        service.stdin.write("go\n")
        service.stdin.flush()
    wait_for(lambda: len(hook.taken) >= 60)
    done.touch()
    taken = [int(service.communicate(timeout=90)[0]) for service in services]
    sent = [(path, body["alert"]["kind"]) for path, body in zip(hook.paths, hook.taken, strict=True)]
    assert sum(taken) == len(sent) == len(set(sent)) == 60
