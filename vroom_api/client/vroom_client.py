"""A client of Vroom's service: `with Client("http://127.0.0.1:8000", key="vroom_...") as vroom: vroom.predict({...})`.

What is refused is raised as a `Problem`, with the fields of the service's answer. Every call may be repeated, so one
that is answered 503 or 429 with Retry-After is asked again.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

Row = Mapping[str, Any]  # inputs by name, and options


class Problem(Exception):
    """A refusal (RFC 9457)."""

    def __init__(self, status: int, members: Row, retry_after: float | None = None) -> None:
        super().__init__(members.get("detail") or f"answered {status}")
        self.status = status
        self.type: str = members.get("type", "about:blank")  # e.g. urn:vroom:invalid-input
        self.detail: str = members.get("detail", "")
        self.help: str | None = members.get("help")  # path of the page about it
        self.field: str | None = members.get("field")
        self.allowed: str | None = members.get("allowed")
        self.errors: list[dict[str, Any]] = members.get("errors", [])
        self.retry_after = retry_after  # seconds


class InvalidRequest(Problem):
    """400, 405, 413, 415, 422: the request is wrong, and stays so."""


class NotAllowed(Problem):
    """401, 403: another key is needed."""


class NotFound(Problem):
    """404, 410: there is no such forecast, entity or prediction, or none any more."""


class Conflict(Problem):
    """409: something is not in the state that this needs."""


class Unavailable(Problem):
    """429, 5xx: later, perhaps."""


_SILENCE = httpx.Timeout(30.0, read=60.0)  # seconds without a sign of life; then events are asked for anew
_KINDS = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 409: Conflict, 410: NotFound}


@dataclass(frozen=True)
class Prediction:
    """One answer; `content` has all of it, also what newer services add."""

    value: float
    low: float
    high: float
    level: float
    in_support: bool
    model_version: int
    prediction_id: str | None  # None where no record is kept
    content: dict[str, Any]

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Prediction":
        value = next(value for name, value in content.items() if name.startswith("predicted_"))
        shared = content["in_support"], content["model_version"], content.get("prediction_id"), content
        low, high, level = (content["interval"][name] for name in ("low", "high", "level"))
        return cls(value, low, high, level, *shared)


@dataclass(frozen=True)
class Event:
    """Something that happened; without an id what is so now."""

    id: str | None
    name: str
    data: Any


class Client:
    """A service.

    Args:
        key: an API key, where the service asks for one.
        forecast: that is asked; the service's flagship by default.
        retries: of a call that is answered 503 or 429 with Retry-After, each after at most `longest_wait` seconds.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        forecast: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        longest_wait: float = 30.0,
    ) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout)
        self._path = f"/forecasts/{forecast}" if forecast else ""
        self._retries, self._longest_wait = retries, longest_wait
        self.close = self._http.close

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(self, inputs: Row | None = None, **options: Any) -> Prediction:
        """Predict one; options are level, explain, entity_id and tags."""
        return Prediction.of(self._call("POST", f"{self._path}/predict", {**(inputs or {}), **options}))

    def predict_by_id(self, entity_id: str, **options: Any) -> Prediction:
        """Predict from what is stored of an entity; options may also be inputs, which go before what is stored."""
        return self.predict(entity_id=entity_id, **options)

    def predict_batch(self, rows: Iterable[Row]) -> list[Prediction]:
        """Predict several, all or none; each row has inputs and options."""
        answers = self._call("POST", f"{self._path}/predict/batch", [dict(row) for row in rows])
        return [Prediction.of(answer) for answer in answers]

    def advise(self, question: str, inputs: Row | None = None, **options: Any) -> dict[str, Any]:
        """The value of an input that is worth most, with its curve."""
        return self._call("POST", f"{self._path}/advise/{question}", {**(inputs or {}), **options})

    def report(self, *outcomes: Row) -> dict[str, int]:
        """Report what really happened; reporting it again changes nothing."""
        return self._call("POST", "/outcomes", [dict(outcome) for outcome in outcomes])

    def model(self) -> dict[str, Any] | None:
        """The version that serves; None where a forecast that was named has none."""
        return self._call("GET", self._path)["champion"] if self._path else self._call("GET", "/model")

    def forecasts(self) -> list[dict[str, Any]]:
        """Every forecast."""
        return self._call("GET", "/forecasts")

    def events(
        self, path: str = "/events", *, last: str | None = None, pause: float = 1.0
    ) -> Iterator[Event]:
        """Events after the one with the id `last`, for ever; a lost connection is made anew, and none is missed."""
        while True:
            headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
            try:
                with self._http.stream("GET", path, headers=headers, timeout=_SILENCE) as answer:
                    if answer.is_error:
                        answer.read()
                        raise _problem(answer)
                    for event in _events(answer.iter_bytes()):
                        last = event.id or last
                        yield event
            except (httpx.TransportError, Unavailable):
                pass
            time.sleep(pause)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        left = self._retries
        while not (answer := self._http.request(method, path, json=body)).is_success:
            problem = _problem(answer)
            if problem.status not in (429, 503) or problem.retry_after is None or not left:
                raise problem
            left -= 1
            time.sleep(min(problem.retry_after, self._longest_wait))
        return answer.json()


def _problem(answer: httpx.Response) -> Problem:
    try:
        members = answer.json()
        members["detail"]
    except (ValueError, TypeError, KeyError):  # of a proxy in between
        members = {"detail": answer.text[:500]}
    after = answer.headers.get("retry-after", "")
    kind = _KINDS.get(answer.status_code, InvalidRequest if answer.status_code < 429 else Unavailable)
    return kind(answer.status_code, members, float(after) if after.isdigit() else None)


def _events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Server-sent events (WHATWG HTML, section 9.2.6); one that is cut off was not sent."""
    rest, fields = b"", dict[str, str]()
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode().rstrip("\r").partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            elif not value:  # and what begins with a colon keeps the connection alive
                if data := fields.get("data"):
                    yield Event(fields.get("id"), fields.get("event", "message"), json.loads(data))
                fields = {}
