"""Structured logs, each line with the id of its request."""

import logging
import sys
from contextvars import ContextVar
from typing import Any

import structlog

request_id: ContextVar[str] = ContextVar("request_id", default="")


def configure_logs(level: str, form: str) -> None:
    """One line for each event on standard error, with the id of its request; JSON, or text for people.

    Bodies, keys and query strings are never logged.
    """
    common: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        _add_request_id,
    ]
    last: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if form == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for client in (
        "httpx",
        "httpcore",
        "urllib3",
    ):  # they log whole addresses, and those of receivers are secrets
        logging.getLogger(client).setLevel(logging.WARNING)


def _add_request_id(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    if identifier := request_id.get():
        event["request_id"] = identifier
    return event
