"""`python -m vroom_api`: the service on uvicorn, one worker. SIGTERM finishes what is under way."""

import signal
import sys
from typing import Any, NoReturn

import uvicorn

from vroom_api.app import create_app
from vroom_api.observability.logs import configure_logs
from vroom_api.security.connections import Connections, bounded
from vroom_api.settings import BadSetting, Settings


def main() -> int:
    # uvicorn sends itself the signal again once it has stopped, for whoever had a handler before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        settings = Settings.read()
        configure_logs(settings.log_level, settings.log_format)
        app = create_app(settings)
    except BadSetting as error:
        print(f"Vroom's service cannot start: {error}", file=sys.stderr)
        return 2
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=bounded(Connections(settings.connections, settings.head_seconds)),
        ws="none",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return 0


def _stop(*_: Any) -> NoReturn:
    """To be asked to stop is not a failure."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
