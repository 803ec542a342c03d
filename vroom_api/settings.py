"""Settings of the service, read once at start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vroom_api.contract import environment
from vroom_api.contract.environment import DEFAULT_UMASK, PORTS, Environment
from vroom_api.contract.origins import LOOPBACK
from vroom_api.contract.pages import UNKNOWN, Pages


@dataclass(frozen=True)
class Settings:
    """What a deployment may choose."""

    home: Path
    database_url: str
    forecast: str = "reservations"
    host: str = "127.0.0.1"
    port: int = PORTS["VROOM_API_PORT"]
    workers: int = 1  # processes that answer on the port
    largest_body: int = 1_000_000  # bytes of a request
    largest_batch: int = 1_000  # rows of a request
    watch_seconds: float = 0.5  # between two checks of the pointer
    umask: int = DEFAULT_UMASK  # what is taken from the rights of files and folders in the home
    automated: bool = True  # whether sensors are meant to look after the forecasts
    stored_in_database: bool = False  # whether the stored inputs of all entities are in the serving database
    record: bool = True  # whether predictions are recorded before they are answered
    record_days: float = 0.0  # that predictions and outcomes are kept; 0 for ever
    record_waiting: int = 10_000  # predictions that may wait for the disk
    command_seconds: float = 60.0  # without whoever consumes commands, after which none is accepted
    event_days: float = 30.0  # that events are kept for those who listen
    record_backlog: int = 1_000_000  # predictions in the record that may wait for their table
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
    pages: Pages = UNKNOWN  # where people open the others, for links to them
    alert_urls: tuple[str, ...] = field(default=(), repr=False)  # who receives alerts; they may hold secrets
    telemetry: bool = False  # traces by OpenTelemetry, to where its own variables say

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> "Settings":
        """The settings of an environment, by default the process's own.

        Raises:
            BadSetting: a value is not what its variable allows.
        """
        found = Environment(variables)
        return cls(
            home=environment.home(variables),
            database_url=environment.database_url(variables),
            forecast=environment.forecast(variables),
            host=environment.host(variables),
            port=found.port("VROOM_API_PORT"),
            workers=found.integer("VROOM_WORKERS", cls.workers, 1, 64),
            largest_body=found.integer("VROOM_LARGEST_BODY", cls.largest_body, 1_000, 100_000_000),
            largest_batch=found.integer("VROOM_LARGEST_BATCH", cls.largest_batch, 1, 100_000),
            watch_seconds=found.number("VROOM_WATCH_SECONDS", cls.watch_seconds, 0.05, 3_600),
            umask=environment.umask(variables),
            automated=found.switch("VROOM_AUTOMATED", cls.automated),
            stored_in_database=environment.stored_in_database(variables),
            record=found.switch("VROOM_RECORD", cls.record),
            record_days=found.number("VROOM_RECORD_DAYS", cls.record_days, 0, 36_500),
            record_waiting=found.integer("VROOM_RECORD_WAITING", cls.record_waiting, 1, 1_000_000),
            command_seconds=found.number("VROOM_COMMAND_SECONDS", cls.command_seconds, 1, 86_400),
            event_days=found.number("VROOM_EVENT_DAYS", cls.event_days, 1, 36_500),
            record_backlog=found.integer("VROOM_RECORD_BACKLOG", cls.record_backlog, 1_000, 100_000_000),
            shutdown_seconds=found.integer("VROOM_SHUTDOWN_SECONDS", cls.shutdown_seconds, 1, 600),
            auth=environment.keys_required(variables),
            allowed_hosts=found.hosts("VROOM_ALLOWED_HOSTS", cls.allowed_hosts, any_by_star=True),
            cors_origins=found.origins("VROOM_CORS_ORIGINS", cls.cors_origins),
            request_seconds=found.number("VROOM_REQUEST_SECONDS", cls.request_seconds, 0.1, 3_600),
            head_seconds=found.number("VROOM_HEAD_SECONDS", cls.head_seconds, 0.1, 3_600),
            connections=found.integer("VROOM_CONNECTIONS", cls.connections, 10, 100_000),
            rate=found.number("VROOM_RATE", cls.rate, 0, 1_000_000),
            log_level=found.choice("VROOM_LOG_LEVEL", cls.log_level, ("debug", "info", "warning", "error")),
            log_format=found.choice("VROOM_LOG_FORMAT", cls.log_format, ("json", "console")),
            pages=environment.pages(variables),
            alert_urls=found.addresses("VROOM_ALERT_URLS"),
            telemetry=found.switch("VROOM_TELEMETRY", cls.telemetry),
        )
