"""The purpose of every field, and versions that do not change by themselves."""

from collections.abc import Iterator
from typing import Any, get_args

import pandas as pd
import pytest
import sqlglot

from tests.support.forecasts import shipped
from vroom_assets.challenger.manifest import feature_fields
from vroom_assets.challenger.onnx_graph import build
from vroom_assets.features.expressions import select_sql
from vroom_assets.spec import PURPOSES, Declared, ForecastSpec, Purpose
from vroom_assets.training.models import Constant


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


BOOKINGS = {
    "name": "bookings",
    "title": "Bookings",
    "description": "bookings of a van",
    "owner": "team:vans",
    "sources": {
        "vans": {
            "path": "vans.csv",
            "description": "vans",
            "columns": {
                "van_id": {"type": "integer", "unique": True},
                "seats": {"type": "integer"},
                "listed_at": {"type": "timestamp"},
            },
        }
    },
    "entity": {"name": "van", "source": "vans", "key": "van_id"},
    "inputs": ["seats"],
    "target": {
        "name": "bookings",
        "kind": "count",
        "unit": "bookings",
        "horizon": "a year",
        "as_of": "vans.listed_at",
    },
    "candidates": {"mean": {"family": "mean"}},
    "features_sql": "select seats from inputs",
    "target_sql": "select van_id, 1 as bookings from vans",
}


def test_versions_of_one_declaration_are_these_for_ever():
    """A home holds them: where one of them changes, by a new field or another way to hash, every home trains again.

    The former ones recognise homes of before fields had purposes. Write other digests here only when all
    shipped forecasts are to be trained again, and say so where changes are told.
    """
    spec, snapshots = ForecastSpec.model_validate(BOOKINGS), {"vans": "a" * 64}
    assert {
        "whole": spec.whole_fingerprint(),
        "former data": spec.former_data_version(snapshots),
        "former trained": spec.former_trained_version(snapshots),
        "data": spec.data_version(snapshots),
        "trained": spec.trained_version(snapshots),
    } == {
        "whole": "a6aee632be0427e9ca4be599c4f6b9c9a3700a25a5a4258b4109e992cfe70706",
        "former data": "e7e90a56eef8e10db7a47a811b04e58e9be2998b051d6d90237a3128413d8b32",
        "former trained": "565709b56d8f1050403ad6302d24a2dfbdaf98f93df8a9880d2b656a795730c6",
        "data": "f368fdcd4fe1a5dbfb003d837260183c3153211bdcc3ef6256ee88a34d2fa37d",
        "trained": "7416de70d5275dc9a853198e9913f062f88f5866cf6fb141dabe2788fd7b6452",
    }


# The features


def test_a_feature_is_parsed_once_wherever_it_is_used(spec, monkeypatch):
    own, parsed = spec.model_copy(), []
    parse_one = sqlglot.parse_one
    monkeypatch.setattr(
        sqlglot, "parse_one", lambda text, **rest: parsed.append(text) or parse_one(text, **rest)
    )
    for _ in range(2):
        select_sql(own.features, "inputs", keep=[], prefix="")
        build(own.inputs, own.features, Constant(1.0, []))
        feature_fields(own, pd.DataFrame({feature.name: [1.0] for feature in own.features}))
        own.fingerprint(Purpose.DATA)
    assert parsed == [feature.expression for feature in own.features]


def test_parsed_features_leave_versions_and_equality_as_they_were():
    spec, same = (ForecastSpec.model_validate(BOOKINGS) for _ in range(2))
    before = spec.whole_fingerprint(), [spec.fingerprint(purpose) for purpose in Purpose]
    assert spec.features[0].inputs == {"seats"}
    assert (spec.whole_fingerprint(), [spec.fingerprint(purpose) for purpose in Purpose]) == before
    assert spec == same
    assert spec.model_dump() == same.model_dump()


def test_a_copy_with_another_statement_has_its_features():
    spec = ForecastSpec.model_validate(BOOKINGS)
    assert [feature.name for feature in spec.features] == ["seats"]
    other = spec.model_copy(update={"features_sql": "select seats * 2 as twice from inputs"})
    assert [feature.name for feature in other.features] == ["twice"]


def test_a_fingerprint_is_computed_once_and_anew_for_a_copy_that_differs():
    spec = shipped("reservations")
    data, model = spec.fingerprint(Purpose.DATA), spec.fingerprint(Purpose.MODEL)
    assert spec.fingerprint(Purpose.DATA) == data
    other = spec.model_copy(update={"target_sql": spec.target_sql.replace("reservations", "vehicles")})
    assert other.fingerprint(Purpose.DATA) != data
    assert other.fingerprint(Purpose.MODEL) == model
    assert spec.fingerprint(Purpose.DATA) == data
    assert spec.model_copy().fingerprint(Purpose.DATA) == data
