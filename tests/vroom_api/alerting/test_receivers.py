"""Who receives alerts, by its address, and what is sent."""

import logging
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.receivers import post_office, webhook
from tests.support.service import free_port, settings_of
from vroom_api.alerting.receivers import (
    NotDelivered,
    Notification,
    Webhook,
    notification_of,
    receivers_of,
    scrubbed,
)
from vroom_api.app import create_app
from vroom_api.contract.alerts import Change, Severity
from vroom_api.contract.environment import BadSetting
from vroom_api.record.alerts import Alert

FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
DECAY = Alert(
    id=7,
    forecast="vans",
    kind="decay",
    subject="",
    severity=Severity.CRITICAL,
    message="The error grew by a fifth. Train again",
    evidence={"growth": 0.2},
    first_seen=FIRST,
    last_seen=FIRST,
    times_seen=1,
    acknowledged_at=None,
    acknowledged_by=None,
    resolved_at=None,
)


def notification(change: Change = Change.OPENED) -> Notification:
    return notification_of(3, change, DECAY, "https://vroom.example/?forecast=vans")


def test_a_webhook_is_posted_what_machines_and_people_read() -> None:
    with webhook() as hook:
        (receiver,) = receivers_of([hook.url()])
        receiver.send(notification())
    (body,) = hook.taken
    assert hook.paths == ["/secret-of-the-hook"]
    assert (body["id"], body["change"], body["link"]) == (3, "opened", "https://vroom.example/?forecast=vans")
    assert body["title"] == "[critical] vans: decay"
    assert body["text"].splitlines() == [
        "[critical] vans: decay",
        "The error grew by a fifth. Train again",
        "Seen first at 2026-03-01 12:00 UTC.",
        "https://vroom.example/?forecast=vans",
    ]
    assert body["alert"]["evidence"] == {"growth": 0.2}
    assert body["alert"]["first_seen"] == "2026-03-01T12:00:00Z"


def test_slack_is_posted_its_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Webhook("https://hooks.slack.com/services/T0/B0/x").kind == "slack"
    monkeypatch.setattr("vroom_api.alerting.receivers._SLACK", ("127.0.0.1",))
    with webhook() as hook:
        Webhook(hook.url()).send(notification())
    assert hook.taken == [{"text": notification().text}]


def test_a_mailbox_gets_a_letter() -> None:
    with post_office() as post:
        (receiver,) = receivers_of([post.url])
        receiver.send(notification(Change.RESOLVED))
    (letter,) = post.letters
    assert (letter["subject"], letter["to"]) == ("[resolved] vans: decay", "ops@example.com")
    text = letter.get_payload(decode=True).decode()
    assert "The error grew by a fifth. Train again" in text
    assert "https://vroom.example/?forecast=vans" in text


@pytest.mark.parametrize("status", [301, 400, 429, 500])
def test_what_is_not_taken_is_an_error_without_the_address(status: int) -> None:
    with webhook() as hook:
        hook.statuses = [status]
        with pytest.raises(NotDelivered) as refusal:
            Webhook(hook.url()).send(notification())
    assert str(refusal.value) == f"it answered {status}"


@pytest.mark.parametrize(
    "address",
    [
        "http://user:hidden-word@127.0.0.1:{port}/hidden-path",
        "mailto://user:hidden-word@127.0.0.1:{port}?from=a@hidden.example&to=b@hidden.example",
        "json://user:hidden-word@127.0.0.1:{port}/hidden-path",
    ],
)
def test_no_part_of_an_address_is_logged_or_stored_of_a_receiver_that_is_down(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (receiver,) = receivers_of([address.format(port=free_port())])
    with pytest.raises(NotDelivered) as refusal:
        receiver.send(notification())
    assert "hidden" not in str(refusal.value)
    assert "127.0.0.1" not in str(refusal.value)
    assert "hidden" not in caplog.text
    assert "hidden" not in receiver.kind + receiver.digest


def test_a_failure_keeps_nothing_of_an_address() -> None:
    address = "slack://T1JJ3T3L2/A1BRTD4JD/token%20of%20ours/#ops?x=secret"
    assert scrubbed("no T1JJ3T3L2, 'token of ours' and secret in ops", address) == "no …, '… of …' and … in …"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hidden-word", "number 1 is not an address"),
        ("https:///hidden-word", "number 1 is not an address"),
        ("http://127.0.0.1:hidden-word/", "number 1 is not an address"),
        ("carrier-pigeon://hidden-word", "knows no receiver of this carrier-pigeon:// address"),
        ("mailtos://", "knows no receiver of this mailtos:// address"),
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(address: str, words: str) -> None:
    with pytest.raises(BadSetting, match=words) as refusal:
        receivers_of([address])
    assert "VROOM_ALERT_URLS" in str(refusal.value)
    assert "hidden" not in str(refusal.value)


def test_a_service_does_not_start_with_what_is_no_address(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, alert_urls=("https://example.org/hidden-path", "hidden-word"))
    assert "hidden" not in repr(settings)
    with pytest.raises(BadSetting, match="number 2 is not an address"):
        create_app(settings)


def test_without_its_package_all_but_webhooks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert len(receivers_of(["https://example.org/hook"])) == 1
    with pytest.raises(BadSetting, match=r"vroom\[alerts\]"):
        receivers_of(["mailtos://user:word@example.org"])


def test_an_address_that_is_given_twice_is_one_receiver() -> None:
    assert len(receivers_of(["https://example.org/hook"] * 2)) == 1
    with pytest.raises(BadSetting, match="20 at most"):
        receivers_of([f"https://example.org/{number}" for number in range(21)])


def test_a_service_without_receivers_loads_neither_library() -> None:
    script = "import sys, vroom_api.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "apprise" not in loaded
