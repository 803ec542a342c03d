"""`python -m vroom_api`: the service on uvicorn. SIGTERM finishes what is under way.

python -m vroom_api                  the service
python -m vroom_api backup <file>    a whole copy of the serving database, also while the service writes
"""

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from vroom_api.contract.damage import DamagedDatabase, check_serving_database, is_quick, serving_file
from vroom_api.contract.environment import BadSetting
from vroom_api.contract.permissions import keep_private
from vroom_api.observability.logs import configure_logs
from vroom_api.record.backup import CannotBackUp, back_up
from vroom_api.settings import Settings
from vroom_api.workers import configuration, prepared, run_workers

log = logging.getLogger(__name__)


def backup(target: str) -> int:
    """Copy the serving database into a file and say what is in it."""
    try:
        settings = Settings.read()
        keep_private(settings.home, settings.umask)
        made = back_up(settings.database_url, Path(target))
    except (BadSetting, CannotBackUp) as error:
        print(f"Nothing was backed up: {error}", file=sys.stderr)
        return 2
    rows = ", ".join(f"{count} {table}" for table, count in made.rows.items())
    print(f"{made.path}: {rows}; read back and whole")
    return 0


def main() -> int:
    match sys.argv[1:]:
        case []:
            return serve()
        case ["backup", target]:
            return backup(target)
    print("use no command for the service, or `backup <file>`", file=sys.stderr)
    return 2


def serve() -> int:
    """Serve until a signal comes."""
    # uvicorn sends itself the signal again once it has stopped, for whoever had a handler before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        settings = Settings.read()
        configure_logs(settings.log_level, settings.log_format)
        keep_private(settings.home, settings.umask)
        read_through(settings.database_url)
        app = prepared(settings)
    except (BadSetting, DamagedDatabase) as error:
        print(f"Vroom's service cannot start: {error}", file=sys.stderr)
        return 2
    if settings.workers > 1:
        del app  # it was made to find out that it can be
        return run_workers(settings)
    server = uvicorn.Server(configuration(app, settings))
    server.run()
    return 0 if server.started else STARTUP_FAILURE


def read_through(url: str) -> None:
    """Look for damage in the serving database: at once where it is small, else beside the service, into its log.

    Raises:
        DamagedDatabase: it is small, and damaged.
    """
    path = serving_file(url)
    if path is None:
        return
    if is_quick(path):
        check_serving_database(url)
    else:
        threading.Thread(target=_report_damage, args=(url,), name="read through", daemon=True).start()


def _report_damage(url: str) -> None:
    try:
        check_serving_database(url)
    except DamagedDatabase as damage:
        log.error("%s", damage)
    except OSError as error:
        log.warning("the serving database could not be read through: %s", error)


def _stop(*_: Any) -> NoReturn:
    """To be asked to stop is not a failure."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
