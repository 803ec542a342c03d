"""Bodies of one object: what is refused says which field it is, and what is allowed."""

from typing import Annotated

import msgspec
import pytest

from vroom_api.problems import Problem
from vroom_api.routes.bodies import decoded, described


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, msgspec.Meta(min_length=1)]
    version: Annotated[int, msgspec.Meta(ge=1)] | None = None


def test_a_body_is_decoded_also_behind_a_mark() -> None:
    assert decoded(b'\xef\xbb\xbf{"reason": "why"}', Wish) == Wish("why")


@pytest.mark.parametrize(
    ("body", "status", "field", "detail"),
    [
        (b"", 400, None, "it is empty"),
        (b"{", 400, None, "cannot be read as JSON"),
        (b"[1]", 422, "", "send a JSON object with reason, version"),
        (b"{}", 422, "reason", "missing"),
        (b'{"reason": "why", "verson": 1}', 422, "verson", "did you mean version"),
        (b'{"reason": "why", "version": 0}', 422, "version", "at least 1"),
        (b'{"reason": ""}', 422, "reason", "reason: "),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(
    body: bytes, status: int, field: str | None, detail: str
) -> None:
    with pytest.raises(Problem) as refused:
        decoded(body, Wish)
    assert refused.value.status == status
    assert [fault.field for fault in refused.value.faults] == ([] if field is None else [field])
    assert detail in refused.value.detail


def test_a_body_is_described_with_an_example() -> None:
    body = described(Wish, {"reason": "why"})
    assert body.content["application/json"].schema["examples"] == [{"reason": "why"}]  # type: ignore[index, call-overload]
