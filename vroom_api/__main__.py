"""`python -m vroom_api`: the service on uvicorn, one worker. SIGTERM finishes what is under way."""

import sys

import uvicorn

from vroom_api.app import create_app
from vroom_api.observability.logs import configure_logs
from vroom_api.settings import BadSetting, Settings


def main() -> int:
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
        http="httptools",
        ws="none",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="warning",
        timeout_keep_alive=75,  # longer than clients keep idle connections, so that they close first
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
