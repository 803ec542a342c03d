"""One request: its JSON, read into a row of inputs and options."""

from typing import Any

import msgspec

from vroom_api.champion.loading import Champion, row_of
from vroom_api.champion.schemas import Taken
from vroom_api.champion.stored_inputs import NotReadable
from vroom_api.predictions.refusals import incomplete, refusal, stored_wrongly, wrong
from vroom_api.problems import Problem

Request = tuple[list[float], float, bool, str | None, dict[str, str] | None, Taken | msgspec.UnsetType]
"""Inputs, level, explain, entity id, tags, and which inputs were taken from what is stored of the entity."""


def decoded(champion: Champion, body: bytes) -> Request:
    """The parts of one request.

    Raises:
        Problem: 400 for what is no JSON, 422 for what is none, or is outside its range.
    """
    try:
        request = champion.decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise refusal(champion.manifest, body, error) from None
    *row, level, explained, entity_id, tags = msgspec.structs.astuple(request)
    taken: Taken | msgspec.UnsetType = msgspec.UNSET
    if msgspec.UNSET in row:
        taken, stored = complete(champion, row, entity_id)
        tags = (stored | (tags or {})) or None
    if champion.coded:
        row = row_of(champion, row)
    return row, level, explained, entity_id, tags, taken


def complete(
    champion: Champion, row: list[Any], entity_id: str | None, number: int | None = None
) -> tuple[Taken | msgspec.UnsetType, dict[str, str]]:
    """Fill in, in place, the inputs that a request left out: from what is stored, else with nothing.

    Args:
        number: of the row in its batch.

    Returns:
        what was taken from what is stored, and the tags that are stored with it.

    Raises:
        Problem: 422 for an input that has to be given, 404 if it is an entity of which nothing is stored,
            503 if what is stored cannot be read.
    """
    fields = champion.manifest.inputs
    left_out = [place for place, value in enumerate(row) if value is msgspec.UNSET]
    try:
        stored = None if entity_id is None else champion.entities.find(entity_id)
    except NotReadable as error:
        raise Problem(
            503, "no-entities", f"{error}; materialize online_features", headers={"retry-after": "10"}
        ) from error
    known = {} if stored is None else stored.values
    names: list[str] = []
    for place in left_out:
        field = fields[place]
        value = known.get(field.name)
        row[place] = value
        if value is not None and (why := wrong(value, field)):
            raise stored_wrongly(field, value, why, number)
        if value is not None:
            names.append(field.name)
    missing = [fields[place] for place in left_out if row[place] is None and not fields[place].nullable]
    if missing:
        raise incomplete(champion, missing, entity_id, number)
    if stored is None or not names:
        return msgspec.UNSET, {}
    tags = {name: str(known[name]) for name in champion.manifest.tags if known.get(name) is not None}
    return Taken(stored.as_of, names), tags
