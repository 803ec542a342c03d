"""`python -m vroom_assets.dagster_daemon`: Dagster's daemon, awake less often, and at work when the clock was set back.

Its command is started as it is, with three of its habits changed. It asks the code server every second whether it is
still the same one, through two processes; every five are enough. It loads all definitions anew every minute, although
it hears of it where they are others; every four are enough. And it compares a sensor's interval with the clock of the wall:
where that was set back by an hour, no sensor would tick for an hour.
"""

from typing import Any

SAME_SERVER_EVERY_SECONDS = 5.0
DEFINITIONS_EVERY_SECONDS = 240  # less than the 300 after which a daemon that cannot load them ends
RECONNECTS = 3  # missed answers until the code server counts as gone; Dagster's own ten are of a second each


def settle() -> None:
    """Ask less often whether the code server is the same one; for whatever has a workspace."""
    from dagster._grpc import server_watcher

    server_watcher.WATCH_INTERVAL = SAME_SERVER_EVERY_SECONDS  # type: ignore[assignment]
    server_watcher.MAX_RECONNECT_ATTEMPTS = RECONNECTS


def tick_after_the_clock_was_set_back() -> None:
    """A tick that lies in the future says nothing about when the next one is due: it is due now."""
    from dagster._daemon import sensor

    elapsed = sensor.get_elapsed

    def elapsed_or_unknown(state: Any) -> float | None:
        seconds = elapsed(state)
        return None if seconds is not None and seconds < 0 else seconds

    sensor.get_elapsed = elapsed_or_unknown


def main() -> None:
    from dagster._daemon import controller
    from dagster._daemon.cli import main as run

    settle()
    controller.RELOAD_WORKSPACE_INTERVAL = DEFINITIONS_EVERY_SECONDS
    tick_after_the_clock_was_set_back()
    run()


if __name__ == "__main__":
    main()
