"""The sensor and the schedule: when they retrain, when not, and that they say why."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
import pytest
from dagster._core.definitions.instigation_logger import get_instigation_log_records

from tests.support.automation import Sensor
from tests.support.forecasts import definitions, entries, opened
from vroom_api.contract.events import Decision, Registered
from vroom_api.contract.heartbeat import latest_beat
from vroom_api.contract.tables import enter_ledger, serving_database
from vroom_assets.forecast import Forecast, sensors
from vroom_assets.forecast.names import FORECAST_TAG, REQUESTED_TAG
from vroom_assets.forecast.versions import RECORDS, declared, short
from vroom_assets.sources import SourceError, files, observe
from vroom_assets.spec import Automation

NAME = "reservations"


@pytest.fixture
def sensor(instance: dg.DagsterInstance, fast: Forecast) -> Sensor:
    return Sensor(instance, fast)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_sources_never_trained_from_are_trained_from_once(sensor, data):
    assert sensor.settle().count("run") == 1
    assert [e.decision for e in entries("retrain")] == ["waiting", "requested"]
    assert "nothing was trained" in entries("retrain")[-1].reason


def test_no_change_asks_for_nothing_and_says_so_at_every_tick(sensor, data):
    sensor.settle()
    before = len(entries())
    assert all(reason.startswith("no change") for reason in sensor.settle())
    assert len(entries()) == before


def test_a_tick_without_a_change_asks_dagster_for_nothing(renewed, monkeypatch):
    sensor = renewed.later(61)
    sensor.settle()

    def opened(_: object) -> dg.DagsterInstance:
        raise AssertionError("an instance was opened, which is most of what a tick costs")

    monkeypatch.setattr(dg.SensorEvaluationContext, "instance", property(opened))
    assert sensor.tick().startswith("no change")


def test_a_source_is_hashed_once_for_the_sensor_and_the_run(sensor, data, run, monkeypatch):
    hashed, honest = [], files._sha256
    monkeypatch.setattr(files, "RACY_SECONDS", -60.0)  # they are as if at rest for a while
    monkeypatch.setattr(files, "_sha256", lambda path: hashed.append(path.name) or honest(path))
    assert sensor.settle().count("run") == 1
    assert run("materialize").success
    sensor.settle()
    assert sorted(hashed) == ["reservations.csv", "vehicles.csv"]


def test_every_tick_leaves_a_heartbeat(sensor, data, fast):
    assert latest_beat(NAME) is None
    for _ in range(2):
        began = time.time()
        sensor.tick()
        found = latest_beat(NAME)
        assert found.checked_at >= began
        assert found.every_s == fast.automation.interval_seconds


def test_a_decision_is_in_the_log_of_its_tick_and_no_change_is_not_written_again(sensor, data, instance):
    def logged() -> list[str]:
        with dg.build_sensor_context(
            cursor=sensor.cursor,
            repository_name="vroom",
            sensor_name=f"{NAME}_sources",
            definitions=sensor.definitions,
            instance_ref=instance.get_ref(),
        ) as context:
            sensor.cursor = sensor.sensor.evaluate_tick(context).cursor
            found = bool(context.has_captured_logs())
        records = get_instigation_log_records(instance, context.log_key) if found else []
        return [str(record["msg"]) for record in records][-1:]  # ticks of one second have one file

    (waits,), (asks,) = logged(), logged()
    assert "waits one more tick" in waits
    assert "nothing was trained from these sources yet" in asks
    assert logged() == []


def test_a_tick_that_cannot_look_leaves_none(sensor, data):
    (data / "vehicles.csv").unlink()
    os.mkfifo(data / "vehicles.csv")
    with pytest.raises(SourceError, match="not a regular file"):
        sensor.tick()
    assert latest_beat(NAME) is None


@pytest.mark.parametrize(("declared", "given"), [(1, 1), (5, 4), (15, 14)])
def test_the_daemon_leaves_out_no_pass_for_a_tick_that_began_a_moment_late(spec, declared, given):
    often = spec.model_copy(update={"automation": Automation(interval_seconds=declared)})
    found = definitions(often).resolve_sensor_def(f"{NAME}_sources")
    assert found.minimum_interval_seconds == given


def test_a_touch_or_an_identical_copy_is_no_change(sensor, data):
    sensor.settle()
    os.utime(data / "vehicles.csv", (1, 1))
    shutil.copyfile(data / "reservations.csv", data / "copy")
    os.replace(data / "copy", data / "reservations.csv")
    assert "run" not in sensor.settle()


def test_a_changed_content_is_one_run_that_names_what_changed(sensor, data):
    sensor.settle()
    edit(data / "vehicles.csv", ",", ", ")
    assert sensor.settle().count("run") == 1
    last = entries("retrain")[-1]
    assert last.decision == "requested"
    assert last.reason.startswith("vehicles changed")
    assert last.evidence["changed"] == ["vehicles"]


def test_a_change_that_keeps_size_and_modification_time_is_seen(sensor, data):
    path = data / "vehicles.csv"
    sensor.settle()
    status = path.stat()
    text = path.read_text()
    path.write_text(text[:-2] + ("1" if text[-2] != "1" else "2") + "\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert sensor.settle().count("run") == 1


def test_several_changes_between_ticks_are_one_run(sensor, data):
    sensor.settle()
    edit(data / "vehicles.csv", ",", ", ")
    edit(data / "reservations.csv", "2023-", "2022-")
    edit(data / "vehicles.csv", "\n", "\r\n")
    assert sensor.settle().count("run") == 1
    assert entries("retrain")[-1].evidence["changed"] == ["vehicles", "reservations"]


def test_a_b_a_is_a_run_each(sensor, data):
    path = data / "vehicles.csv"
    first = path.read_text()
    assert sensor.settle().count("run") == 1
    edit(path, ",", ", ")
    assert sensor.settle().count("run") == 1
    path.write_text(first)
    assert sensor.settle().count("run") == 1
    versions = sensor.observed()
    assert len(versions) == 3
    assert versions[0] == versions[2] != versions[1]


def test_a_file_that_is_still_growing_waits_and_is_one_run_when_it_rests(sensor, data):
    sensor.settle()
    growing = data / "vehicles.csv"
    for _ in range(3):
        with open(growing, "a") as file:
            file.write(" ")
        assert "waits" in sensor.tick()
    assert sensor.settle().count("run") == 1


def test_a_file_that_nothing_has_written_to_for_a_while_is_not_waited_for(sensor, data, monkeypatch):
    sensor.settle()
    edit(data / "vehicles.csv", ",", ", ")
    monkeypatch.setattr(sensors, "AT_REST_SECONDS", -60.0)  # as if it had been a minute
    assert sensor.tick() == "run"


def test_a_missing_file_waits_and_names_it(sensor, data):
    sensor.settle()
    (data / "vehicles.csv").rename(data / "away.csv")
    assert "vehicles.csv, which is not there" in sensor.tick()
    (data / "away.csv").rename(data / "vehicles.csv")
    assert "run" not in sensor.settle()


def test_a_change_while_everything_was_down_is_found_at_the_next_start(sensor, data, instance, fast):
    sensor.settle()
    later = Sensor(instance, fast)
    later.cursor = sensor.cursor  # what Dagster keeps over a restart
    edit(data / "vehicles.csv", ",", ", ")
    assert later.settle().count("run") == 1


@pytest.mark.slow
def test_what_was_trained_by_hand_is_adopted_and_not_trained_again(sensor, data, run):
    run()
    reasons = sensor.settle()
    assert "run" not in reasons
    assert any("trained already" in reason for reason in reasons)
    assert entries("retrain")[-1].decision == "current"


def test_a_change_during_a_run_waits_for_its_end(sensor, data, instance, fast):
    sensor.settle()
    job = sensor.definitions.resolve_job_def(f"{NAME}_retrain")
    under_way = instance.create_run_for_job(
        job, tags={FORECAST_TAG: NAME}, status=dg.DagsterRunStatus.STARTED
    )
    edit(data / "vehicles.csv", ",", ", ")
    assert all("under way" in reason for reason in sensor.settle()[1:])
    instance.report_run_failed(under_way)
    assert sensor.settle().count("run") == 1


def test_a_changed_declaration_is_a_change(sensor, data, instance, fast):
    sensor.settle()
    changed = sensor.under(with_field(fast, "validation.seed", 8))
    assert changed.settle().count("run") == 1
    assert entries("retrain")[-1].reason.startswith("the declaration changed")


def with_field(spec: Forecast, field: str, value: Any) -> Forecast:
    """The declaration with another value of one field, by its path."""
    whole = part = spec.model_dump(mode="json")
    *way, last = field.split(".")
    for name in way:
        part = part.setdefault(name, {})  # what is at its defaults is not in a dump
    part[last] = value
    return Forecast(**whole)


def contents(spec: Forecast, data: Path) -> dict[str, str]:
    return {name: observe(data / Path(one.path).name, None).sha256 for name, one in spec.sources.items()}


def record(instance: dg.DagsterInstance, **versions: str | None) -> None:
    """What the assets of a finished run record."""
    for asset, version in versions.items():
        metadata = {RECORDS[asset]: version} if version else {}
        key = dg.AssetKey([NAME, asset])
        instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))


@pytest.fixture
def renewed(sensor: Sensor, instance: dg.DagsterInstance, fast: Forecast, data: Path) -> Sensor:
    """The sensor after a training that it asked for and that published a champion."""
    sensor.settle()
    now = declared(fast, contents(fast, data))
    record(instance, features=now.table, challenger=now.trained, contest=now.judged, champion=now.served)
    return sensor


# A changed field, its new value, and the assets that are made anew.
CHANGES = [
    ("owner", "team:other", None),
    ("description", "other words", None),
    ("sources.vehicles.description", "other words", None),
    ("automation.schedule", "0 5 * * *", None),
    ("automation.interval_seconds", 6, None),
    ("monitoring.growth", 0.2, None),
    ("monitoring.window_minutes", 60.0, None),
    ("retraining.cool_down_minutes", 5.0, None),
    ("retraining.new_rows", 0.5, None),
    ("target.due_days", 30.0, "champion"),
    ("sources.reservations.columns.created_at.description", "other words", None),
    ("title", "Bookings", "champion"),
    ("target.unit", "bookings", "champion"),
    ("target.horizon", "a year", "champion"),
    ("entity.name", "car", "champion"),
    ("sources.vehicles.columns.actual_price.description", "other words", "champion"),
    ("sources.vehicles.columns.actual_price.unit", "EUR/day", "champion"),
    ("freshness.model_age.stale_after_days", 31, "champion"),
    ("freshness.data_age", {"stale_after_days": 1, "expired_after_days": 2}, "champion"),
    ("advice.price.description", "other words", "champion"),
    ("advice", {}, "champion"),
    ("gates.bias", 0.04, "contest+champion"),
    ("contest.effect", 0.01, "contest+champion"),
    ("gates.reference", "glm", "run"),
    ("sources.vehicles.columns.actual_price.maximum", 9_999, "run"),
    ("sources.vehicles.tolerated_bad_share", 0.02, "run"),
    ("candidates.glm.parameters.alpha", 0.5, "run"),
    ("validation.repeats", 2, "run"),
]


@pytest.mark.parametrize(("field", "value", "made"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_changed_field_makes_anew_what_it_is_for_and_nothing_else(renewed, fast, field, value, made):
    ticks = renewed.under(with_field(fast, field, value)).settle()
    assert [tick for tick in ticks if not tick.startswith("no change")] == ([made] if made else [])
    last = entries("retrain")[-1]
    words = {"champion": "republish", "contest+champion": "rejudge", "run": "requested", None: "requested"}
    assert last.decision == words[made]
    if made in ("champion", "contest+champion"):
        assert "nothing is trained" in last.reason


@pytest.mark.parametrize("name", ["features_sql", "target_sql"])
def test_other_code_in_a_statement_trains_and_another_comment_does_not(renewed, fast, name):
    sql = getattr(fast, name)
    commented = f"-- more\n{sql}\n".replace("\nfrom", "\n\n  from")
    assert "run" not in (later := renewed.under(with_field(fast, name, commented))).settle()
    assert (
        later.under(with_field(fast, name, sql.replace("select", "select 1 as one,", 1)))
        .settle()
        .count("run")
        == 1
    )


def test_another_comment_in_features_sql_is_another_description_in_the_bundle(renewed, fast):
    ticks = renewed.under(with_field(fast, "features_sql", f"{fast.features_sql}\n-- more")).settle()
    assert ticks[0] == "champion"


def test_rules_and_words_that_change_together_are_one_run(renewed, fast):
    both = with_field(with_field(fast, "title", "Bookings"), "gates.bias", 0.04)
    assert renewed.under(both).settle()[0] == "contest+champion"


def test_the_contest_is_not_held_on_features_of_another_declaration(renewed, instance, fast):
    record(instance, features="of-another")
    assert renewed.under(with_field(fast, "gates.bias", 0.04)).settle()[0] == "run"


def test_what_failed_is_not_trained_again_because_a_word_changed(sensor, instance, fast):
    sensor.settle()
    record(instance, challenger="an-earlier-training")
    assert sensor.under(with_field(fast, "title", "Bookings")).settle()[0].endswith("was asked for already")


def test_the_schedule_does_no_more_than_the_change_asks_for(renewed, instance, fast):
    judged = schedule(instance, with_field(fast, "gates.bias", 0.04))
    assert isinstance(judged, dg.RunRequest)
    assert [key.path[-1] for key in judged.asset_selection or []] == ["contest", "champion"]
    assert "the contest is held again" in judged.tags["vroom/reason"]
    assert entries("retrain")[-1].decision == "rejudge"
    assert isinstance(schedule(instance, with_field(fast, "owner", "team:other")), dg.SkipReason)


@pytest.fixture
def of_before(sensor: Sensor, instance: dg.DagsterInstance, fast: Forecast, data: Path) -> Sensor:
    """The sensor in a home whose versions were made from the whole declaration."""
    sensor.settle()
    now = contents(fast, data)
    cursor = json.loads(sensor.cursor or "")
    del cursor["judging"], cursor["serving"]
    sensor.cursor = json.dumps(cursor | {"wanted": fast.former_trained_version(now)})
    record(
        instance,
        features=fast.former_data_version(now),
        challenger=fast.former_trained_version(now),
        contest=None,
        champion=None,
    )
    return sensor


def test_a_home_of_before_fields_had_purposes_trains_nothing_by_that(of_before, instance, fast):
    assert all(tick.startswith("no change") for tick in of_before.settle())
    assert isinstance(schedule(instance, fast), dg.SkipReason)


def test_the_same_without_a_cursor_trains_nothing_either(of_before):
    of_before.cursor = None
    assert "run" not in of_before.settle()


@pytest.mark.parametrize(
    ("field", "value", "made"),
    [
        ("owner", "team:other", None),
        ("title", "Bookings", "champion"),
        ("gates.bias", 0.04, "contest+champion"),
        ("validation.repeats", 2, "run"),
    ],
)
def test_later_changes_of_such_a_home_lead_to_what_they_do_elsewhere(
    of_before, instance, fast, field, value, made
):
    of_before.settle()
    changed = with_field(fast, field, value)
    request = schedule(instance, changed)
    ticks = of_before.under(changed).settle()
    assert [tick for tick in ticks if not tick.startswith("no change")] == ([made] if made else [])
    assert isinstance(request, dg.RunRequest if made else dg.SkipReason)


def test_a_declaration_that_changed_together_with_how_versions_are_made_is_trained(of_before, fast):
    assert of_before.under(with_field(fast, "title", "Bookings")).settle().count("run") == 1


def test_a_cursor_that_nobody_can_read_starts_anew_and_does_not_stop_the_sensor(renewed):
    renewed.cursor = '{"seen": 3}'
    assert "run" not in renewed.settle()


def test_a_request_that_came_to_nothing_is_repeated_with_growing_pauses_and_entered_once(sensor, data):
    sensor.settle()
    assert sensor.later(58).tick().startswith("no change")
    for seconds in (61, 121, 241):
        assert sensor.later(seconds).settle().count("run") == 1
    assert sensor.later(241).settle().count("run") == 0
    assert [entry.decision for entry in entries("retrain")] == ["waiting", "requested", "requested"]
    assert "is not finished: its run failed or was never launched" in entries("retrain")[-1].reason


def test_a_request_is_not_repeated_while_its_run_is_queued_or_under_way(sensor, data, instance):
    sensor.settle()
    job = sensor.definitions.resolve_job_def(f"{NAME}_retrain")
    queued = instance.create_run_for_job(
        job, tags={FORECAST_TAG: NAME}, status=dg.DagsterRunStatus.NOT_STARTED
    )
    assert all("is under way" in reason for reason in sensor.later(61).settle())
    instance.report_run_failed(queued)
    assert sensor.settle().count("run") == 1


def test_a_run_that_somebody_terminated_is_not_requested_again(sensor, data, instance):
    sensor.settle()
    job = sensor.definitions.resolve_job_def(f"{NAME}_retrain")
    run = instance.create_run_for_job(job, tags={FORECAST_TAG: NAME}, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_canceled(run)
    assert "run" not in sensor.later(61).settle()
    assert entries("retrain")[-1].decision == "skipped"
    assert "somebody terminated its run" in entries("retrain")[-1].reason
    edit(data / "vehicles.csv", ",", ", ")
    assert sensor.settle().count("run") == 1


def test_a_run_of_the_monitoring_says_nothing_of_a_training(sensor, data, instance):
    sensor.settle()
    training = sensor.definitions.resolve_job_def(f"{NAME}_retrain")
    run = instance.create_run_for_job(training, tags={FORECAST_TAG: NAME}, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_canceled(run)
    monitor = sensor.definitions.resolve_job_def(f"{NAME}_monitor")
    instance.create_run_for_job(monitor, tags={FORECAST_TAG: NAME}, status=dg.DagsterRunStatus.SUCCESS)
    assert "run" not in sensor.later(61).settle()
    assert "somebody terminated its run" in entries("retrain")[-1].reason


def test_a_challenger_whose_contest_was_not_held_is_judged_and_not_trained_again(sensor, trained, data):
    sensor.settle()  # asks for what the home of the test has since
    earlier = entries("training")[-1]
    with serving_database() as engine:
        enter_ledger(
            engine,
            forecast=NAME,
            actor="a training that died after it",
            decision=Decision.REGISTERED,
            reason="",
            evidence=msgspec.convert(earlier.evidence | {"version": 2}, Registered),
        )
    sensor.cursor = json.dumps(json.loads(sensor.cursor or "") | {"settled": False, "asked_at": 0.0})
    assert sensor.tick() == "contest+champion"


def test_without_dagsters_history_what_is_trained_and_published_is_not_made_again(
    sensor, trained, data, fast
):
    assert "run" not in sensor.settle()
    assert "is trained already" in entries("retrain")[-1].reason
    assert sensor.under(with_field(fast, "gates.bias", 0.04)).settle()[0] == "contest+champion"


def test_a_lost_ledger_leaves_the_champion_as_what_was_trained(sensor, trained, data):
    for path in trained.glob("serving.db*"):
        path.unlink()
    assert "run" not in sensor.settle()


def test_sources_and_a_declaration_that_change_together_are_both_named(renewed, fast, data):
    edit(data / "vehicles.csv", ",", ", ")
    renewed.under(with_field(fast, "validation.seed", 8)).settle()
    assert entries("retrain")[-1].reason.startswith("vehicles and the declaration changed")


def test_a_failed_run_is_not_asked_for_again_at_once(sensor, data, run):
    sensor.settle()
    (data / "vehicles.csv").write_text("nonsense\n")
    assert sensor.settle().count("run") == 1
    assert not run().success
    assert "run" not in sensor.settle()


def schedule(instance: dg.DagsterInstance, spec: Forecast) -> dg.RunRequest | dg.SkipReason:
    daily = definitions(spec).resolve_schedule_def(f"{NAME}_daily")
    with dg.build_schedule_context(instance=instance) as context:
        return daily(context)


def test_the_schedule_skips_what_is_trained_and_says_so(renewed, instance, fast):
    skipped = schedule(instance, fast)
    assert isinstance(skipped, dg.SkipReason)
    assert "trained already" in skipped.skip_message
    assert entries("retrain")[-1].decision == "skipped"


def test_the_schedule_retrains_what_differs_and_says_so(renewed, instance, fast, data):
    edit(data / "vehicles.csv", ",", ", ")
    request = schedule(instance, fast)
    assert isinstance(request, dg.RunRequest)
    assert request.tags[FORECAST_TAG] == NAME
    assert entries("retrain")[-1].decision == "requested"


def test_a_failed_run_is_reported_with_its_cause_and_its_mlflow_run_closed(
    sensor, instance, fast, run, data, trained
):
    sensor.settle()
    good = (data / "vehicles.csv").read_text()
    (data / "vehicles.csv").write_text("nonsense\n")
    assert sensor.settle().count("run") == 1
    failed = run(tags={REQUESTED_TAG: short(json.loads(sensor.cursor)["wanted"])})
    event = instance.get_run_record_by_id(failed.run_id)
    failure = next(e for e in failed.all_events if e.event_type == dg.DagsterEventType.RUN_FAILURE)
    whole = definitions(fast)
    context = dg.build_run_status_sensor_context(
        sensor_name="report_failures",
        dagster_event=failure,
        dagster_instance=instance,
        dagster_run=event.dagster_run,
    ).for_run_failure()
    for _ in range(2):  # as for a second run that fails by the same
        whole.resolve_sensor_def("report_failures")(context)
    assert len(entries("run")) == 1
    (alert,) = opened()
    assert (alert.forecast, alert.kind, alert.subject) == (NAME, "run_failed", f"{NAME}_retrain")
    assert (alert.severity, alert.times_seen) == ("warning", 2)  # a champion serves
    assert "line 1: column vehicle_id" in alert.message
    assert alert.evidence["run_id"] == failed.run_id
    last = entries("run")[-1]
    assert last.decision == "failed"
    assert f"{NAME}_retrain failed: data/reservations/vehicles.csv" in last.reason
    assert "line 1: column vehicle_id" in last.reason
    assert "version 1 keeps serving" in last.reason
    assert last.run_id == failed.run_id
    assert sensor.tick().startswith("no change")  # the next request is a minute ahead, the trouble is known
    assert "data/reservations/vehicles.csv" in latest_beat(NAME).trouble
    (data / "vehicles.csv").write_text(good)
    sensor.settle()
    assert latest_beat(NAME).trouble == ""
