"""Settings of the service: environment variables with the prefix VROOM_, read once at start."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from vroom_api.contract import FORECAST_NAME
from vroom_api.contract.origins import LOOPBACK
from vroom_api.contract.permissions import DEFAULT_UMASK, umask_of
from vroom_api.contract.tables import sqlite_url


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class BadSetting(Exception):
    """A setting that the service cannot start with; the message names the variable and what is allowed."""


@dataclass(frozen=True)
class Settings:
    """What a deployment may choose."""

    home: Path
    database_url: str
    forecast: str = "reservations"
    host: str = "127.0.0.1"
    port: int = 8000
    largest_body: int = 1_000_000  # bytes of a request
    largest_batch: int = 1_000  # rows of a request
    watch_seconds: float = 0.5  # between two checks of the pointer
    umask: int = DEFAULT_UMASK  # what is taken from the rights of files and folders in the home
    automated: bool = True  # whether sensors are meant to look after the forecasts
    record: bool = True  # whether predictions are recorded before they are answered
    record_days: float = 0.0  # that predictions and outcomes are kept; 0 for ever
    record_waiting: int = 10_000  # predictions that may wait for the disk
    shutdown_seconds: int = 10  # that requests under way are given to finish
    auth: bool = False  # whether API keys are asked for; without them only on loopback
    allowed_hosts: tuple[str, ...] = LOOPBACK  # names that requests may be addressed to; * is any
    cors_origins: tuple[str, ...] = ()  # whose pages may ask from a browser
    request_seconds: float = 30.0  # until an answer begins
    head_seconds: float = 10.0  # until the head of a request has come
    connections: int = 1_000  # that are open at once
    rate: float = 0.0  # requests and rows of batches a second of one key; 0 any
    log_level: str = "info"
    log_format: str = "json"
    telemetry: bool = False  # traces by OpenTelemetry, to where its own variables say

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """The settings of an environment, by default the process's own.

        Raises:
            BadSetting: a value is not what its variable allows.
        """
        found = _Environment(os.environ if environment is None else environment)
        home = Path(found.text("HOME", "var")).absolute()
        host = found.text("HOST", cls.host)
        auth = found.switch("AUTH", not is_loopback(host))
        if not (auth or is_loopback(host)):
            raise BadSetting(
                f"VROOM_AUTH=off with VROOM_HOST={host}: without API keys the service is for this machine only; "
                "use VROOM_AUTH=on, or VROOM_HOST=127.0.0.1"
            )
        return cls(
            home=home,
            database_url=found.database("DATABASE_URL", sqlite_url(home / "serving.db")),
            forecast=found.name("FORECAST", cls.forecast),
            host=host,
            port=int(found.number("API_PORT", cls.port, 1, 65_535, whole=True)),
            largest_body=int(found.number("LARGEST_BODY", cls.largest_body, 1_000, 100_000_000, whole=True)),
            largest_batch=int(found.number("LARGEST_BATCH", cls.largest_batch, 1, 100_000, whole=True)),
            watch_seconds=found.number("WATCH_SECONDS", cls.watch_seconds, 0.05, 3_600),
            umask=found.umask("UMASK"),
            automated=found.switch("AUTOMATED", cls.automated),
            record=found.switch("RECORD", cls.record),
            record_days=found.number("RECORD_DAYS", cls.record_days, 0, 36_500),
            record_waiting=int(found.number("RECORD_WAITING", cls.record_waiting, 1, 1_000_000, whole=True)),
            shutdown_seconds=int(found.number("SHUTDOWN_SECONDS", cls.shutdown_seconds, 1, 600, whole=True)),
            auth=auth,
            allowed_hosts=found.names("ALLOWED_HOSTS", LOOPBACK),
            cors_origins=found.names("CORS_ORIGINS", ()),
            request_seconds=found.number("REQUEST_SECONDS", cls.request_seconds, 0.1, 3_600),
            head_seconds=found.number("HEAD_SECONDS", cls.head_seconds, 0.1, 3_600),
            connections=int(found.number("CONNECTIONS", cls.connections, 10, 100_000, whole=True)),
            rate=found.number("RATE", cls.rate, 0, 1_000_000),
            log_level=found.choice("LOG_LEVEL", ("info", "debug", "warning", "error")),
            log_format=found.choice("LOG_FORMAT", ("json", "console")),
            telemetry=found.switch("TELEMETRY", cls.telemetry),
        )


class _Environment:
    """Typed reading of variables; an empty one counts as not set."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str, default: str) -> str:
        return self._variables.get(f"VROOM_{name}", "").strip() or default

    def name(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if not FORECAST_NAME.fullmatch(text):
            raise BadSetting(f"VROOM_{name}={text!r}: use the name of a forecast, e.g. {default}")
        return text

    def number(self, name: str, default: float, low: float, high: float, *, whole: bool = False) -> float:
        text = self.text(name, str(default))
        try:
            value: float = int(text) if whole else float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise BadSetting(f"VROOM_{name}={text!r}: use {kind} from {low:g} to {high:g}")
        return value

    def umask(self, name: str) -> int:
        try:
            return umask_of(self.text(name, ""))
        except ValueError as error:
            raise BadSetting(str(error)) from None

    def switch(self, name: str, default: bool) -> bool:
        text = self.text(name, "on" if default else "off").lower()
        if text not in ("on", "off"):
            raise BadSetting(f"VROOM_{name}={text!r}: use on or off")
        return text == "on"

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        text = self.text(name, ",".join(default))
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def choice(self, name: str, options: tuple[str, ...]) -> str:
        text = self.text(name, options[0]).lower()
        if text not in options:
            raise BadSetting(f"VROOM_{name}={text!r}: use one of {', '.join(options)}")
        return text

    def database(self, name: str, default: str) -> str:
        text = self.text(name, default)
        try:
            sa.make_url(text)
        except sa.exc.ArgumentError:
            # The value may hold a password, so it is not repeated.
            raise BadSetting(
                f"VROOM_{name}: no database URL; use one like {default} or "
                "postgresql+psycopg://user:password@host/database"
            ) from None
        return text
