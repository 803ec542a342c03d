"""How the supervisor chooses ports and prepares the home, before anything is started."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import pytest

from tests.support.project import ROOT
from vroom_api.contract.environment import PORTS, BadSetting
from vroom_assets import supervisor
from vroom_assets.supervisor import (
    PORTS_TRIED,
    CannotStart,
    Service,
    announce,
    elsewhere,
    port_of,
    prepare_home,
)

SETTING = "VROOM_MLFLOW_PORT"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program holds on all addresses, as a Mac's own receiver holds 5000."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        yield other.getsockname()[1]


def test_the_usual_port_is_taken_where_it_is_free(monkeypatch, taken, capsys):
    monkeypatch.setenv(SETTING, "")  # as good as not set
    monkeypatch.setitem(PORTS, SETTING, taken)
    free = port_of(SETTING)
    capsys.readouterr()
    monkeypatch.setenv(SETTING, "")
    monkeypatch.setitem(PORTS, SETTING, free)
    assert port_of(SETTING) == free
    assert os.environ[SETTING] == str(free)
    assert capsys.readouterr().out == ""


def test_where_nobody_chose_and_the_usual_port_is_taken_the_next_free_one_is_printed(
    monkeypatch, taken, capsys
):
    monkeypatch.setenv(SETTING, "")
    monkeypatch.setitem(PORTS, SETTING, taken)
    found = port_of(SETTING)
    assert taken < found < taken + PORTS_TRIED
    assert os.environ[SETTING] == str(found)
    assert (
        capsys.readouterr().out
        == f"Port {taken} is taken: {found} instead; {SETTING}=<port> chooses another.\n"
    )


def test_a_port_that_somebody_chose_and_is_taken_is_refused(monkeypatch, taken):
    monkeypatch.setenv(SETTING, str(taken))
    with pytest.raises(CannotStart, match=f"port {taken} is taken; .* choose another with {SETTING}=<port>"):
        port_of(SETTING)


@pytest.fixture
def prepared(home) -> None:
    """A prepared home, and the environment of what is started in it."""
    prepare_home()


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("VROOM_UMASK", "700", "from 000 to 077"),
        ("VROOM_FORECAST", "../elsewhere", "the name of a forecast"),
        ("VROOM_DAGSTER_HOSTS", "https://pages.example", "names without ports"),
        ("VROOM_AUTH", "yes", "use on or off"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_written(home, monkeypatch, variable, value, allowed):
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSetting, match=f"^{variable}.*{value}.*{allowed}"):
        prepare_home()
    assert list(home.iterdir()) == []


def test_what_killed_fits_left_is_removed_at_the_start(home):
    left = home / ".fits" / "of a killed run"
    left.mkdir(parents=True)
    (left / "values").write_bytes(b"rows")
    prepare_home()
    assert not left.exists()


def test_mlflow_is_told_to_start_no_workers(prepared):
    from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_JOB_EXECUTION

    assert MLFLOW_SERVER_ENABLE_JOB_EXECUTION.get() is False


def test_dagster_runs_the_daemons_that_something_uses(prepared):
    with dg.DagsterInstance.get() as instance:
        assert set(instance.get_required_daemon_types()) == {
            "SENSOR",
            "SCHEDULER",
            "QUEUED_RUN_COORDINATOR",
            "MONITORING",
            "EVENT_LOG_CONSUMER",
            "BACKFILL",
            "FRESHNESS_DAEMON",
        }


def test_a_run_that_a_busy_code_server_does_not_take_is_queued_again(prepared):
    with dg.DagsterInstance.get() as instance:
        queue = instance.get_concurrency_config()
        assert queue.run_queue_config.max_user_code_failure_retries == 5
        assert queue.pool_config.default_pool_limit == 1


def test_dagster_keeps_its_connections_until_its_instance_is_closed(prepared):
    with dg.DagsterInstance.get() as instance:
        instance.add_run(dg.DagsterRun("a_job", "1"))
        engines = [storage.connect.__self__ for storage in (instance.run_storage, instance.schedule_storage)]
        for ask in (instance.get_runs_count, instance.all_instigator_state):
            ask()
            ask()
        assert [engine.pool.checkedin() for engine in engines] == [1, 1]
    assert [engine.pool.checkedin() for engine in engines] == [0, 0]
    with dg.DagsterInstance.get() as instance:
        assert [run.job_name for run in instance.get_runs()] == ["a_job"]


def test_what_is_called_elsewhere_leaves_nothing_behind():
    assert elsewhere(os.getpid) != os.getpid()


def test_the_supervisor_itself_is_small():
    script = (
        "import sys, vroom_assets.__main__; print([n for n in ('dagster', 'sqlalchemy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_addresses_are_printed_once_all_answer_however_late(home, monkeypatch, capsys):
    monkeypatch.setattr(supervisor, "READY_WITHIN_SECONDS", 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = [Service(name, [], port) for name in ("dagster", "api", "mlflow")]
    announcing = threading.Thread(target=announce, args=(running, time.monotonic() - 1), daemon=True)
    announcing.start()
    time.sleep(1)
    early = capsys.readouterr().out
    assert early.count(f"dagster does not answer at http://127.0.0.1:{port} yet; its log is above") == 1
    assert "Vroom is ready" not in early
    with ThreadingHTTPServer(("127.0.0.1", port), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        announcing.join(20)
        server.shutdown()
    assert f"Service   http://127.0.0.1:{port}" in capsys.readouterr().out
