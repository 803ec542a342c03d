"""What was asked: the JSON of one request or a batch, read into rows of inputs and their options."""

from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import msgspec

from vroom_api.champion.loading import Champion
from vroom_api.champion.schemas import FilledInputs
from vroom_api.champion.stored_inputs import NotReadable
from vroom_api.predictions.refusals import incomplete, refusal, stored_wrongly, wrong, wrong_times
from vroom_api.problems import Fault, Problem

MAX_EXPLAINED = 20  # rows of a batch
ROWS_AT_A_TIME = 50  # between two rests
Result = TypeVar("Result")


class Asked(msgspec.Struct, frozen=True, gc=False):
    """One row to predict, and how to answer it."""

    row: list[float]  # inputs, encoded, in the manifest's order
    level: float
    explain: bool
    entity_id: str | None
    tags: dict[str, str] | None  # of the request, and those that are stored with the entity
    filled: FilledInputs | msgspec.UnsetType  # inputs that were left out and are stored of the entity
    number: int | None = None  # of the row in its batch


def decode(champion: Champion, body: bytes) -> Asked:
    """Read one request.

    Raises:
        Problem: 400 for a body that is not JSON, 422 for one that is not a request or is outside its range.
    """
    return asked_of(champion, decode_request(champion, body))


def decode_request(champion: Champion, body: bytes) -> msgspec.Struct:
    """Read one request, without what is stored.

    Raises:
        Problem: as `decode`.
    """
    try:
        request: msgspec.Struct = champion.decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise refusal(champion.manifest, body, error) from None
    return request


Steps = Generator[
    None, None, Result
]  # work that rests every millisecond or two, where others may take a turn


def finish(steps: Steps[Result]) -> Result:
    """Run all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result


def slices(rows: int) -> Iterator[slice]:
    """A batch in pieces that take about a millisecond each."""
    return (slice(start, start + ROWS_AT_A_TIME) for start in range(0, rows, ROWS_AT_A_TIME))


def decode_in_steps(champion: Champion, body: bytes, largest: int) -> Steps[list[Asked]]:
    """Read a JSON array of 1 to `largest` requests, a few rows at a time.

    Raises:
        Problem: as for one.
    """
    try:
        requests = champion.batch_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise refusal(champion.manifest, body, error, batch=True) from None
    if not 1 <= len(requests) <= largest:
        allowed = f"1..{largest} rows"
        detail = f"batch: {len(requests)} rows are not within {allowed}"
        raise Problem(422, "invalid-input", detail, faults=[Fault("batch", detail, allowed)])
    yield
    asked: list[Asked] = []
    for part in slices(len(requests)):
        asked += [asked_of(champion, request, len(asked) + at) for at, request in enumerate(requests[part])]
        yield
    if sum(one.explain for one in asked) > MAX_EXPLAINED:
        detail = f"explain: reasons are given for up to {MAX_EXPLAINED} rows of a batch"
        raise Problem(422, "invalid-input", detail, faults=[Fault("explain", detail)])
    return asked


def asked_of(champion: Champion, request: msgspec.Struct, number: int | None = None) -> Asked:
    """A decoded request with the inputs that it left out, encoded.

    Raises:
        Problem: as `fill`; 422 for a time that is none.
    """
    *values, level, explain, entity_id, tags = msgspec.structs.astuple(request)
    filled: FilledInputs | msgspec.UnsetType = msgspec.UNSET
    if msgspec.UNSET in values:
        filled, stored_tags = fill(champion, values, entity_id, number)
        tags = (stored_tags | (tags or {})) or None
    try:
        row = champion.encoder.encode(values)
    except ValueError:
        raise wrong_times(champion.manifest, values, number) from None
    return Asked(row, level, explain, entity_id, tags, filled, number)


def fill(
    champion: Champion, values: list[Any], entity_id: str | None, number: int | None
) -> tuple[FilledInputs | msgspec.UnsetType, dict[str, str]]:
    """Fill the inputs that a request left out, in the list itself: with what is stored, else with None.

    Args:
        number: of the row in its batch.

    Returns:
        which inputs were filled with what is stored, and the tags that are stored with it.

    Raises:
        Problem: 422 for an input that has to be given, 404 if it is an entity of which nothing is stored,
            503 if what is stored cannot be read.
    """
    fields = champion.manifest.inputs
    left_out = [index for index, value in enumerate(values) if value is msgspec.UNSET]
    try:
        entity = None if entity_id is None else champion.entities.find(entity_id)
    except NotReadable as error:
        raise Problem(
            503, "no-entities", f"{error}; materialize online_features", headers={"retry-after": "10"}
        ) from error
    stored = {} if entity is None else entity.values
    names: list[str] = []
    for index in left_out:
        field = fields[index]
        value = stored.get(field.name)
        values[index] = value
        if value is not None:
            if why := wrong(value, field):
                raise stored_wrongly(field, value, why, number)
            names.append(field.name)
    missing = [fields[index] for index in left_out if values[index] is None and not fields[index].nullable]
    if missing:
        raise incomplete(champion, missing, entity_id, number)
    if entity is None or not names:
        return msgspec.UNSET, {}
    tags = {name: str(stored[name]) for name in champion.manifest.tags if stored.get(name) is not None}
    return FilledInputs(entity.as_of, names), tags
