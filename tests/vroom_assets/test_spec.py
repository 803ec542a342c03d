"""The purpose of every field, and versions that do not change by themselves."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from vroom_assets.spec import PURPOSES, Declared, ForecastSpec, Purpose


def parts_in(annotation: Any) -> list[type[Declared]]:
    """The declared parts that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Declared):
        return [annotation]
    return [part for inner in get_args(annotation) for part in parts_in(inner)]


def kinds(kind: type[Declared] = ForecastSpec) -> Iterator[type[Declared]]:
    """A kind of part and all kinds within."""
    yield kind
    for field in kind.model_fields.values():
        for part in parts_in(field.annotation):
            yield from kinds(part)


KINDS = sorted(set(kinds()), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_every_field_has_one_purpose(kind):
    given = [name for names in PURPOSES.get(kind, {}).values() for name in names]
    own = [name for name, field in kind.model_fields.items() if not parts_in(field.annotation)]
    assert sorted(given) == sorted(own), "give each field of this part one purpose in PURPOSES"


def test_all_parts_of_a_declaration_are_looked_at():
    assert set(PURPOSES) == set(KINDS)


def test_one_field_changes_the_fingerprint_of_its_purpose_alone(spec):
    before = {purpose: spec.fingerprint(purpose) for purpose in Purpose}
    later = spec.model_copy(update={"gates": spec.gates.model_copy(update={"bias": 0.01})})
    assert {purpose for purpose in Purpose if later.fingerprint(purpose) != before[purpose]} == {
        Purpose.JUDGING
    }


def test_a_component_has_the_fingerprints_of_its_declaration(spec):
    from vroom_assets.forecast import Forecast

    component = Forecast(**spec.model_dump(mode="json"))
    assert [component.fingerprint(one) for one in Purpose] == [spec.fingerprint(one) for one in Purpose]


def test_a_string_in_a_statement_is_no_comment(spec):
    first, second = (spec.model_copy(update={"target_sql": f"select '-- {text}'"}) for text in ("a", "b"))
    assert first.fingerprint(Purpose.DATA) != second.fingerprint(Purpose.DATA)


def test_a_value_is_not_a_column_of_its_name(spec):
    first, second = (spec.model_copy(update={"target_sql": f"select {text}"}) for text in ("a", "'a'"))
    assert first.fingerprint(Purpose.DATA) != second.fingerprint(Purpose.DATA)
