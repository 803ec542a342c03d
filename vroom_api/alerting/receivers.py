"""Receivers of alerts: webhooks by httpx, everything else by Apprise.

An ``https://`` address is posted a JSON document whose field ``text`` is what chat systems with webhooks like
Slack's display; Slack's own take that field and no other. E-mail (``mailtos://``) and what else Apprise knows need
the extra `alerts`. An address may hold a secret: it is neither logged nor stored, and what a library says of a
failure is stored without any part of it.
"""

import hashlib
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from vroom_api.contract.alerts import Change, Severity
from vroom_api.contract.environment import BadSetting
from vroom_api.record.alerts import Alert

SETTING: Final = "VROOM_ALERT_URLS"
TIMEOUT_SECONDS: Final = 10.0
MAX_RECEIVERS: Final = 20
_SLACK: Final = ("hooks.slack.com", "hooks.slack-gov.com")
_MAX_ERROR = 300  # characters that are stored of a failure
_MAX_TITLE = 120
_SHORTEST_SECRET = 3  # characters: shorter parts of an address say nothing, and stand in every word
_EXAMPLES = "https://example.org/hook or mailtos://user:password@example.org"


class NotDelivered(Exception):
    """A receiver did not take a notification; the message says why, without the address."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver is sent, as it stands in a webhook's JSON."""

    id: int  # the same at every attempt, so that a receiver can drop what it has
    change: Change
    title: str
    text: str  # title and message, for people
    link: str | None  # to the service's page of the forecast
    alert: Alert


class Receiver(Protocol):
    """Somebody who is sent alerts."""

    @property
    def digest(self) -> str:
        """SHA-256 of the address."""

    @property
    def kind(self) -> str:
        """What may be logged of it."""

    def send(self, notification: Notification) -> None:
        """Send, and return once it was taken.

        Raises:
            NotDelivered: it was not.
        """


@dataclass(frozen=True)
class Webhook:
    """An address that takes JSON by POST."""

    address: str

    @property
    def digest(self) -> str:
        return _digest(self.address)

    @property
    def kind(self) -> str:
        return "slack" if urlsplit(self.address).hostname in _SLACK else urlsplit(self.address).scheme

    def send(self, notification: Notification) -> None:
        import httpx  # a fifth of a second, and 20 MB, that a service without receivers does without

        content = {"text": notification.text} if self.kind == "slack" else notification
        try:
            answer = httpx.post(
                self.address,
                content=msgspec.json.encode(content),
                headers={"content-type": "application/json", "user-agent": "vroom"},
                timeout=TIMEOUT_SECONDS,
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NotDelivered(type(error).__name__) from None  # its words may hold the address
        if not answer.is_success:
            raise NotDelivered(f"it answered {answer.status_code}")


class ByApprise:
    """An address that Apprise knows.

    Raises:
        BadSetting: the package is not installed, or does not know the address.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.digest = _digest(address)
        self.kind = address.partition("://")[0].lower()
        apprise = _apprise()
        asset = apprise.AppriseAsset(app_id="Vroom", app_desc="Vroom", app_url="", async_mode=False)
        with _captured():
            service = apprise.Apprise.instantiate(address, asset=asset)
        if service is None:
            raise BadSetting(f"{SETTING}: Apprise knows no receiver of this {self.kind}:// address")
        self._service: Any = service
        self._types = {
            Change.RESOLVED: apprise.NotifyType.SUCCESS,
            Severity.CRITICAL: apprise.NotifyType.FAILURE,
            Severity.WARNING: apprise.NotifyType.WARNING,
        }

    def send(self, notification: Notification) -> None:
        over = notification.change is Change.RESOLVED
        kind = self._types[Change.RESOLVED if over else notification.alert.severity]
        with _captured() as warnings:
            try:
                taken = self._service.notify(
                    title=notification.title, body=_body(notification), notify_type=kind, body_format="text"
                )
            except Exception as error:  # whatever a plugin raises
                raise NotDelivered(type(error).__name__) from None
        if not taken:
            raise NotDelivered(scrubbed("; ".join(warnings) or "it was not taken", self._address))


def receivers_of(addresses: Sequence[str]) -> tuple[Receiver, ...]:
    """A receiver for each address.

    Raises:
        BadSetting: one is not an address, or needs a package that is not installed. The message does not repeat it.
    """
    if len(addresses) > MAX_RECEIVERS:
        raise BadSetting(f"{SETTING}: {len(addresses)} addresses; use {MAX_RECEIVERS} at most")
    return tuple(_receiver(number, address) for number, address in enumerate(dict.fromkeys(addresses), 1))


def _receiver(number: int, address: str) -> Receiver:
    scheme = address.partition("://")[0].lower()
    if scheme in ("http", "https") and _has_host(address):
        return Webhook(address)
    if scheme in ("http", "https", address.lower()):
        raise BadSetting(f"{SETTING}: number {number} is not an address; use one like {_EXAMPLES}")
    try:
        return ByApprise(address)
    except BadSetting as error:
        raise BadSetting(f"{error} (number {number}); use one like {_EXAMPLES}") from None


def _has_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # what stands after the colon is not a port
        return False


def notification_of(identifier: int, change: Change, alert: Alert, link: str | None) -> Notification:
    """What is sent about a change of an alert."""
    about = f"{alert.forecast}: " if alert.forecast else ""
    subject = f" ({alert.subject})" if alert.subject else ""
    state = {Change.OPENED: alert.severity.value, Change.WORSE: "now critical", Change.RESOLVED: "resolved"}
    title = f"[{state[change]}] {about}{alert.kind.replace('_', ' ')}{subject}"[:_MAX_TITLE]
    times = f"Seen first at {_minute(alert.first_seen)}"
    if alert.resolved_at is not None:
        times += f", over since {_minute(alert.resolved_at)}"
    lines = [title, alert.message, f"{times}.", *([link] if link else [])]
    return Notification(
        id=identifier, change=change, title=title, text="\n".join(lines), link=link, alert=alert
    )


def scrubbed(text: str, address: str) -> str:
    """What is left of a text without any part of an address."""
    rest = address.partition("://")[2]
    parts = {part for whole in (rest, unquote(rest)) for part in re.split(r"[/?#&=:@,;\s]+", whole)}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST_SECRET:
            text = text.replace(part, "…")
    return text[:_MAX_ERROR]


def _body(notification: Notification) -> str:
    return notification.text.partition("\n")[2]


def _minute(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()


def _apprise() -> Any:
    """Apprise, silent: what it logs would name addresses. Loading its plugins takes one to two seconds and 50 MB."""
    try:
        import apprise
    except ImportError:
        raise BadSetting(
            f"{SETTING}: all but https:// needs the package of the extra `alerts`: pip install 'vroom[alerts]'"
        ) from None
    logging.getLogger("apprise").propagate = False
    return apprise


_one_at_a_time = threading.Lock()


@contextmanager
def _captured() -> Iterator[list[str]]:
    """What Apprise warns of while this is open, instead of its log."""
    warnings: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(record.getMessage())

    handler, logger = Kept(logging.WARNING), logging.getLogger("apprise")
    with _one_at_a_time:
        logger.addHandler(handler)
        try:
            yield warnings
        finally:
            logger.removeHandler(handler)
