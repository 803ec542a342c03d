"""Each entity has one version in every process; shares are what they say, and grow without moving anybody back."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.support.bundles import EXAMPLE, FORECAST, inputs, predicted, publish
from tests.support.service import timeless
from tests.support.trials import SINCE, listing, per_photo, put_beside, tried_champion, try_out
from vroom_api.champion.loading import Champion, load
from vroom_api.champion.scoring import Scorer
from vroom_api.contract import AgeLimits, FreshnessPolicy, Trial, TrialRole
from vroom_api.predictions.answered import predict_many, predict_one
from vroom_api.predictions.asked import finish
from vroom_api.predictions.choice import answering, answering_in_steps, belongs, subject_of
from vroom_api.problems import Problem
from vroom_api.record.prediction import PredictionLog

ENTITIES = 10_000


def a_trial(share: float, since: str = SINCE) -> Trial:
    return Trial(
        version=2, manifest_sha256="0" * 64, role=TrialRole.SPLIT, share=share, since=since, by="ann"
    )


def second(share: float, since: str = SINCE) -> set[int]:
    trial = a_trial(share, since)
    return {one for one in range(ENTITIES) if belongs(FORECAST, trial, subject_of(str(one), []))}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_share_is_what_it_says_within_a_hundredth(share: float):
    assert len(second(share)) / ENTITIES == pytest.approx(share, abs=0.01)


def test_another_process_chooses_the_same():
    script = (
        "import json\n"
        "from tests.vroom_api.predictions.test_choice import second\n"
        "print(json.dumps(sorted(second(0.1))))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(json.loads(found.stdout)) == second(0.1)


def test_a_larger_share_moves_nobody_back_and_another_trial_draws_anew():
    assert second(0.1) < second(0.2)
    overlap = len(second(0.1) & second(0.1, "2026-04-01T00:00:00.000+00:00")) / ENTITIES
    assert overlap == pytest.approx(0.01, abs=0.005)


def test_without_an_entity_the_same_row_has_the_same_version():
    assert subject_of(None, [1.0, 2.0]) == subject_of(None, [1.0, 2.0]) != subject_of(None, [2.0, 1.0])
    assert subject_of("7", [1.0]) == subject_of("7", [2.0])
    rows = [[float(number), 1.0] for number in range(ENTITIES)]
    hits = sum(belongs(FORECAST, a_trial(0.1), subject_of(None, row)) for row in rows)
    assert hits / ENTITIES == pytest.approx(0.1, abs=0.01)


@pytest.fixture
def champion(tmp_path: Path) -> Champion:
    return tried_champion(tmp_path, TrialRole.SPLIT, 0.3)


def test_value_interval_and_version_of_an_answer_come_from_one_version(champion: Champion):
    assert champion.tried is not None
    versions = set()
    for entity in range(60):
        body = json.dumps(listing(entity)).encode()
        version = answering(champion, body).version
        answer = timeless(predict_one(champion, body))
        assert answer == timeless(predict_one(alone_in(version), body))
        assert json.loads(answer)["model_version"] == version.version
        versions.add(version.version)
    assert versions == {1, 2}


def alone_in(version: Champion) -> Champion:
    """A version as if it answered alone."""
    return replace(version, tried=None)


def test_a_batch_is_answered_row_by_row_as_alone_and_in_its_order(champion: Champion):
    rows = [listing(entity, num_images=entity % 90) for entity in range(200)] + [EXAMPLE]
    answer, by_version, handed_back = predict_many(champion, json.dumps(rows).encode(), 1000)
    found = json.loads(answer)
    alone = [json.loads(predict_one(champion, json.dumps(row).encode())) for row in rows]
    assert [one["model_version"] for one in found] == [one["model_version"] for one in alone]
    values = [one["predicted_reservations"] for one in alone]
    assert [one["predicted_reservations"] for one in found] == pytest.approx(values, rel=1e-12)
    assert (by_version.total(), handed_back) == (201, 0)
    assert set(by_version) == {1, 2}


def test_what_goes_to_the_second_version_is_put_together(champion: Champion):
    body = json.dumps([listing(entity) for entity in range(50)]).encode()
    chosen = finish(answering_in_steps(champion, body, 50))
    assert 0 < len(chosen.positions) == len(chosen.for_second) < 50
    assert [one.entity_id for one in chosen.for_second] == [str(at) for at in chosen.positions]
    alone = finish(answering_in_steps(alone_in(champion), body, 50))
    assert (len(alone.asked), alone.second, alone.positions) == (50, None, [])


def test_a_second_version_that_has_expired_answers_nothing(tmp_path: Path):
    policy = FreshnessPolicy(model=AgeLimits(stale_after_s=1.0, expired_after_s=2.0), expired="refuse")
    old = {"freshness": policy, "trained_at": "2020-01-01T00:00:00+00:00"}
    champion = tried_champion(tmp_path, TrialRole.SPLIT, 0.99, **old)
    bodies = [json.dumps(listing(entity)).encode() for entity in range(20)]
    assert {json.loads(predict_one(champion, body))["model_version"] for body in bodies} == {1}


def test_a_version_in_shadow_answers_nothing(tmp_path: Path):
    champion = tried_champion(tmp_path, TrialRole.SHADOW, 1.0)
    for entity in range(20):
        chosen = answering(champion, json.dumps(listing(entity)).encode())
        assert (chosen.version, chosen.asked.entity_id) == (champion, str(entity))


def test_a_text_that_may_be_any_is_read_by_the_version_that_answers(tmp_path: Path):
    """Its codes are those that a training has seen, so the same text is another number for another version."""

    def texts(values: list[str]) -> list:
        field = msgspec.structs.replace(
            inputs()[5], type="text", values=values, is_open=True, minimum=None, maximum=None, example=0.0
        )
        return [*inputs()[:5], field]

    publish(tmp_path, 1, inputs=texts(["a", "b", "other"]))
    put_beside(tmp_path, 2, inputs=texts(["b", "c", "other"]))
    try_out(tmp_path, 2, TrialRole.SPLIT, 0.999)
    champion = load(FORECAST, tmp_path)
    assert champion is not None
    assert champion.tried is not None
    assert not champion.tried.same_rows
    body = json.dumps(listing("7", description="b")).encode()
    chosen = answering(champion, body)
    assert (chosen.version.version, chosen.asked.row[5], chosen.by_champion.row[5]) == (2, 0.0, 1.0)
    rows = finish(answering_in_steps(champion, b"[" + body + b"]", 1))
    assert [one.row[5] for one in rows.for_second] == [0.0]
    assert [one.row[5] for one in rows.asked] == [1.0]


@pytest.fixture
def without_some_numbers(tmp_path: Path) -> Champion:
    """Version 2 answers nearly all entities, and has no finite number for a vehicle without photos."""
    return tried_champion(tmp_path, TrialRole.SPLIT, 0.999, **per_photo())


def test_what_the_second_version_has_no_number_for_the_champion_answers(without_some_numbers: Champion):
    champion = without_some_numbers
    rows = [listing(entity, num_images=entity % 3) for entity in range(30)]
    log = PredictionLog("shop", 0)
    answer, by_version, handed_back = predict_many(champion, json.dumps(rows).encode(), 100, log)
    found = json.loads(answer)
    assert [one["model_version"] for one in found] == [1 if entity % 3 == 0 else 2 for entity in range(30)]
    assert (by_version, handed_back) == ({1: 10, 2: 20}, 10)
    recorded = {one.id: (one.entity_id, one.origin.version, one.value) for one in log.predictions}
    assert recorded == {
        one["prediction_id"]: (str(entity), one["model_version"], one["predicted_reservations"])
        for entity, one in enumerate(found)
    }
    alone = [json.loads(predict_one(champion, json.dumps(row).encode())) for row in rows]
    assert [one["model_version"] for one in alone] == [one["model_version"] for one in found]


def test_what_neither_version_has_a_number_for_is_refused(without_some_numbers: Champion):
    impossible = listing(0, num_images=0, actual_price=5e-324, recommended_price=10_000)
    for ask in (
        lambda: predict_one(without_some_numbers, json.dumps(impossible).encode()),
        lambda: predict_many(without_some_numbers, json.dumps([EXAMPLE, impossible]).encode(), 2),
    ):
        with pytest.raises(Problem) as refused:
            ask()
        assert "ln(actual_price / recommended_price)" in refused.value.detail


def test_rows_of_one_turn_are_scored_by_their_own_version_in_one_call_of_each(champion: Champion):
    assert champion.tried is not None
    calls: Counter[int] = Counter()

    def counting(version: Champion) -> Champion:
        session = version.session

        class Session:
            def run(self, *given: object) -> object:
                calls[version.version] += 1
                return session.run(*given)

        return replace(version, session=Session())

    both = [counting(champion), counting(champion.tried.second)]
    rows = [[1.0, 45.0, 50.0, float(number), 0.0, 250.0] for number in range(12)]

    async def score() -> list[tuple[float, list[float]]]:
        scorer = Scorer()
        for _ in range(2):  # in the first turn it is not known that there are others
            calls.clear()
            found = await asyncio.gather(
                *(scorer.score(both[number % 2], row) for number, row in enumerate(rows))
            )
        return found

    found = asyncio.run(score())
    expected = [predicted(row, 1.0 + number % 2)[1] for number, row in enumerate(rows)]
    assert [value for value, _ in found] == pytest.approx(expected, rel=1e-12)
    assert calls == {1: 1, 2: 1}
