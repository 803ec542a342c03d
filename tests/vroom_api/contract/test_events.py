"""Evidence is written as JSON and read again by its kind."""

import msgspec
import pytest

from vroom_api.contract.events import (
    ContestResult,
    Decision,
    Event,
    Evidence,
    RolledBack,
    SourcesSeen,
    evidence_of,
)


def kinds(of: type[Evidence] = Evidence) -> list[type[Evidence]]:
    return [kind for child in of.__subclasses__() for kind in (child, *kinds(child))]


def test_every_kind_of_evidence_belongs_to_an_event():
    assert {kind.event for kind in kinds()} == set(Event)


def test_a_roll_back_is_written_as_it_always_was():
    written = msgspec.to_builtins(RolledBack(before=3, after=2, generation=7))
    assert written == {"from": 3, "to": 2, "generation": 7}
    assert evidence_of(RolledBack, written).before == 3


def test_evidence_of_another_kind_is_an_error_and_not_an_empty_find():
    with pytest.raises(msgspec.ValidationError, match="from"):
        evidence_of(RolledBack, msgspec.to_builtins(SourcesSeen(sources={}, generation=1)))


@pytest.mark.parametrize(
    ("verdict", "generation", "publishes"),
    [
        (Decision.PROMOTE, 4, True),
        (Decision.REFRESH, 4, True),
        (Decision.HOLD, 4, False),
        (Decision.PROMOTE, 5, False),
    ],
)
def test_a_result_publishes_unless_it_holds_or_another_publication_came_first(verdict, generation, publishes):
    result = ContestResult(
        forecast="f", challenger=2, champion=1, generation=4, verdict=verdict, reason="", failed_gates=[],
        comparison={}, unseen={}, data_version="",
    )  # fmt: skip
    assert result.publishes(generation) is publishes
