"""More than one process that answers on one port, by VROOM_WORKERS.

The first process answers nothing: it holds the port, starts the workers, starts one anew that ends or hangs, and hands
the signal to stop on to all. Each worker is the whole service and reads the settings by itself.
"""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from litestar import Litestar
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from vroom_api.app import create_app
from vroom_api.contract.permissions import keep_private
from vroom_api.observability.logs import configure_logs
from vroom_api.security.connections import Connections, bounded
from vroom_api.settings import Settings

MAX_SILENCE = 30.0  # seconds without a sign of life, after which a worker is ended and started anew


_streams: list[Callable[[], None]] = []  # what ends those of this process


def _end_streams() -> None:
    """End the answers that have no end of their own: a server that stops would wait for them."""
    for end in _streams:
        end()


def configuration(app: Any, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves: one process here, or as many as there are workers.

    Args:
        app: the application, or for workers the name of what makes it.
    """
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=settings.workers,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=bounded(Connections(settings.connections, settings.head_seconds, _end_streams)),
        ws="none",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=settings.shutdown_seconds,
        timeout_worker_healthcheck=int(MAX_SILENCE),
    )


def prepared(settings: Settings) -> Litestar:
    """The application for a process of its own.

    Raises:
        BadSetting: as `create_app`.
    """
    app = create_app(settings)
    _streams.append(app.state["feed"].close)
    app.on_startup.append(_keep_what_stays)
    return app


def run_workers(settings: Settings) -> int:
    """Serve by several processes until a signal comes; the exit code."""
    config = configuration("vroom_api.workers:worker", settings)
    supervisor = Multiprocess(config, sockets=[config.bind_socket()])
    supervisor.run()
    failed = any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes)
    return STARTUP_FAILURE if failed else 0


def worker() -> Litestar:
    """The application of one worker, called in its process."""
    settings = Settings.read()
    configure_logs(settings.log_level, settings.log_format)
    keep_private(settings.home, settings.umask)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    return prepared(settings)


def _end_with_parent() -> None:
    """Stop when the first process was killed: without it nobody would end this one, and the port would stay taken."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _keep_what_stays() -> None:
    """Leave modules, models and schemas, which stay, to no collection of garbage: each would go through all of them."""
    gc.collect()
    gc.freeze()
