"""Which version answers a request, while a second one is tried beside the champion.

A share of the entities goes to the second version, by the hash of their ids with the start of the trial: each entity has the
same version in every process and after every restart, and keeps it while the share stays; a larger share only adds
to those that went there before. A request without an entity goes by the hash of its row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from struct import pack
from typing import NamedTuple

import msgspec

from vroom_api.champion.freshness import Expired, admit
from vroom_api.champion.loading import Champion, Tried
from vroom_api.contract import Trial
from vroom_api.predictions.asked import Asked, Steps, asked_of, decode, decode_in_steps

_ALL = 2**64


def belongs(forecast: str, trial: Trial, subject: bytes) -> bool:
    """Whether a subject is in the share of a trial."""
    digest = hashlib.blake2b(f"{forecast}\0{trial.since}\0".encode() + subject, digest_size=8).digest()
    return int.from_bytes(digest) < trial.share * _ALL


def subject_of(entity_id: str | None, row: Sequence[float]) -> bytes:
    """What a request is about: its entity, else its row."""
    if entity_id is not None:
        return b"entity\0" + entity_id.encode()
    return b"row\0" + pack(f"{len(row)}d", *row)


def goes_to_second(tried: Tried, asked: Asked) -> bool:
    """Whether the second version answers a request that the champion has read; one that has expired answers none."""
    if not tried.is_split:
        return False
    manifest = tried.second.manifest
    if not belongs(manifest.forecast, tried.trial, subject_of(asked.entity_id, asked.row)):
        return False
    try:
        admit(manifest, datetime.now(UTC))
    except Expired:
        return False
    return True


class Chosen(NamedTuple):
    """The version that answers one request."""

    version: Champion
    asked: Asked  # as that version reads it
    by_champion: Asked  # as the champion reads it, who answers where that version has no finite number


def answering(champion: Champion, body: bytes, request: msgspec.Struct | None = None) -> Chosen:
    """Choose who answers one request.

    Args:
        request: the body as the champion reads it, where that is done already.

    Raises:
        Problem: as `asked.decode`.
    """
    asked = decode(champion, body) if request is None else asked_of(champion, request)
    tried = champion.tried
    if tried is None or not goes_to_second(tried, asked):
        return Chosen(champion, asked, asked)
    return Chosen(tried.second, asked if tried.same_rows else decode(tried.second, body), asked)


@dataclass(frozen=True)
class ChosenRows:
    """Who answers which rows of a batch."""

    asked: list[Asked]  # all rows, as the champion reads them
    second: Champion | None  # None where the champion answers all
    positions: list[int]  # of the rows that the second version answers, ascending
    for_second: list[Asked]  # these, as it reads them


def answering_in_steps(champion: Champion, body: bytes, largest: int) -> Steps[ChosenRows]:
    """Choose who answers the rows of a batch.

    Raises:
        Problem: as `asked.decode_in_steps`.
    """
    asked = yield from decode_in_steps(champion, body, largest)
    tried = champion.tried
    positions = [at for at, one in enumerate(asked) if goes_to_second(tried, one)] if tried else []
    if tried is None or not positions:
        return ChosenRows(asked, None, [], [])
    yield
    read = asked if tried.same_rows else (yield from decode_in_steps(tried.second, body, largest))
    return ChosenRows(asked, tried.second, positions, [read[at] for at in positions])
