"""The whole system under one supervisor: its ports, its home, its processes."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from vroom_api.contract import BundleError, bundle_folder, home, read_bundle, read_pointer
from vroom_api.contract.environment import PORTS, forecast, keys_required, umask
from vroom_api.contract.pages import MLFLOW_VIEW
from vroom_api.contract.permissions import keep_private
from vroom_assets import home_lock, renaming, settings
from vroom_assets.damage import check_databases
from vroom_assets.training import mapped

P = ParamSpec("P")
R = TypeVar("R")

LOOPBACK = "127.0.0.1"
READY_WITHIN_SECONDS = 180
PORTS_TRIED = 20  # from the default on, where nobody chose one


class CannotStart(Exception):
    """Why the system does not start; the message says what to change."""


@dataclass(frozen=True)
class Service:
    """One process of the system, and where it answers if people go there."""

    name: str
    command: list[str]
    port: int | None = None
    ready: str = ""

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


def port_of(setting: str) -> int:
    """The port of a page: the one of the environment, else the default, else the next one that is free.

    What is found is written into the environment, where the other processes read it.

    Raises:
        BadSetting: what the environment holds is not a port.
        CannotStart: the one that it holds is taken, or all that were tried.
    """
    if (chosen := settings.chosen_port(setting)) is not None:
        if not is_free(chosen):
            raise CannotStart(
                f"port {chosen} is taken; stop what uses it, or choose another with {setting}=<port>"
            )
        return chosen
    default = PORTS[setting]
    found = next((port for port in range(default, default + PORTS_TRIED) if is_free(port)), None)
    if found is None:
        raise CannotStart(
            f"ports {default} to {default + PORTS_TRIED - 1} are taken; choose another with {setting}=<port>"
        )
    if found != default:
        print(f"Port {default} is taken: {found} instead; {setting}=<port> chooses another.", flush=True)
    settings.hand_down({setting: str(found)})
    return found


def is_free(port: int) -> bool:
    """Whether a page can be opened here: nothing answers, and the port can be bound.

    Both are asked: where another program holds the port on all addresses, some systems let a second one
    bind the loopback address under it.
    """
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex((LOOPBACK, port)) == 0:
            return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def services() -> list[Service]:
    """All processes, once their ports are known to be free.

    Dagster's code server, web server and daemon run side by side and share the one code server. `dagster
    dev` would start the same three but does not end them on SIGTERM.
    """
    dagster = port_of("VROOM_DAGSTER_PORT")
    api = port_of("VROOM_API_PORT")
    mlflow = port_of("VROOM_MLFLOW_PORT")
    settings.hand_down_addresses(
        {
            "VROOM_SERVICE_URL": f"http://{LOOPBACK}:{api}",
            "VROOM_DAGSTER_URL": f"http://{LOOPBACK}:{dagster}",
            "VROOM_MLFLOW_URL": f"http://{LOOPBACK}:{mlflow}",
        }
    )
    code = free_port()
    workspace = home() / "dagster" / "workspace.yaml"
    workspace.parent.mkdir(parents=True, exist_ok=True)
    workspace.write_text(
        f"load_from:\n  - grpc_server: {{host: {LOOPBACK}, port: {code}, location_name: vroom}}\n"
    )
    python = sys.executable
    quiet = ("--log-level", "warning")  # the page shows every tick; the terminal shows what needs somebody
    code_server = "vroom_assets.code_server" if settings.warm_runs() else "dagster"
    location = ("-m", "vroom_assets.definitions", "--location-name", "vroom")
    return [
        Service(
            "code",
            [python, "-m", code_server, "code-server", "start", "-h", LOOPBACK, "-p", str(code), *location],
        ),
        Service("daemon", [python, "-m", "vroom_assets.dagster_daemon", "run", "-w", str(workspace), *quiet]),
        Service(
            "dagster",
            [
                python,
                "-m",
                "vroom_assets.dagster_server",
                "-w",
                str(workspace),
                "-h",
                LOOPBACK,
                "-p",
                str(dagster),
                *quiet,
            ],
            dagster,
            "/server_info",
        ),
        Service("api", [python, "-m", "vroom_api"], api, "/livez"),
        Service("mlflow", [python, "-m", "vroom_assets.mlflow_server"], mlflow, "/health"),
    ]


def free_port() -> int:
    """A port nobody uses, for what only our own processes talk to."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def prepare_home() -> Path:
    """Create the home, for its owner alone, point Dagster and MLflow at it, and return it.

    Raises:
        BadSetting: a value of the environment is not what its variable allows.
    """
    settings.check()
    folder = home()
    keep_private(folder, umask())
    mapped.sweep()
    dagster_home = folder / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True)
    (folder / "mlflow").mkdir(exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("dagster.yaml"), dagster_home / "dagster.yaml")
    settings.hand_down_home(folder)
    return folder


def fail_abandoned_runs() -> int:
    """Mark the runs whose processes died with the last start as failed, and return how many there were."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        under_way = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
        abandoned = instance.get_runs(dg.RunsFilter(statuses=under_way))
        for run in abandoned:
            instance.report_run_failed(run, "Vroom was stopped while this run was under way.")
    return len(abandoned)


def elsewhere(function: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Call it in a process that ends with it: what it imports would stay with the supervisor until the end."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(function, *given, **named).result()


def announce(running: list[Service], started: float) -> None:
    """Wait until all answer, however long it takes, then say where they are and how to ask for a prediction."""
    with_page = [service for service in running if service.port]
    for service in with_page:
        is_late = False
        while not _answers(service.url + service.ready):
            if not is_late and time.monotonic() - started > READY_WITHIN_SECONDS:
                is_late = True
                print(
                    f"\n{service.name} does not answer at {service.url} yet; its log is above. All addresses follow "
                    "once it does.",
                    flush=True,
                )
            time.sleep(0.3)
    urls = {service.name: service.url for service in with_page}
    print(
        f"""
Vroom is ready after {time.monotonic() - started:.0f} s.

  Dagster   {urls["dagster"]}    lineage, runs, history
  Service   {urls["api"]}    documentation at {urls["api"]}/schema
  MLflow    {urls["mlflow"]}/#/experiments{MLFLOW_VIEW}    experiments and the model registry

Ask for a prediction:

  {_curl(urls["api"])}

Ctrl-C stops everything.
""",
        flush=True,
    )


def _curl(api: str) -> str:
    """A request for a prediction, ready to be pasted; without a champion, how to get one."""
    name = forecast()
    try:
        pointer = read_pointer(name)
        if pointer is None:
            raise BundleError("nothing was published yet")
        manifest = read_bundle(bundle_folder(name, pointer.version), pointer.manifest_sha256).manifest
    except BundleError:
        return "(no champion yet: repair what the log says and press Materialize all in Dagster)"
    key = ""
    if keys_required():
        key = f'-H "Authorization: Bearer $(cat {shlex.quote(str(home() / "admin.key"))})" '
    content = shlex.quote(json.dumps(manifest.example))
    return f"curl -s {api}/predict {key}-H 'content-type: application/json' -d {content}"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # an address of our own  # nosec B310
            return answer.status < 500
    except OSError:
        return False


def supervise(running: list[Service], lock: home_lock.HomeLock) -> int:
    """Start all, stop all when one stops or a signal comes, and return the exit code."""
    import honcho.manager

    from vroom_assets import watchdog

    honcho.manager.KILL_WAIT = 20  # Dagster ends its own children first
    manager = honcho.manager.Manager()
    manager._process_ctor = watchdog.RestartableProcess
    started = {
        service.name: manager.add_process(
            service.name, shlex.join(home_lock.sharing(lock.path, service.name, service.command))
        )
        for service in running
    }
    threading.Thread(target=announce, args=(running, time.monotonic()), daemon=True).start()
    pages = next(service.url for service in running if service.name == "dagster")
    watched = (pages, started["code"], started["daemon"])
    threading.Thread(target=watchdog.watch, args=watched, daemon=True).start()
    manager.loop()
    return manager.returncode


def start() -> int:
    """Train the first champion if there is none, then run everything until it is stopped.

    Raises:
        CannotStart: a setting is not valid, or a port is taken.
        HomeInUse: another process works in the home.
        Unfinished: a forecast is half renamed.
        DamagedDatabase: a database in the home cannot be used.
    """
    folder = prepare_home()
    lock = home_lock.hold(folder, "python -m vroom_assets")
    renaming.check_finished(folder)
    elsewhere(check_databases, folder)
    running = services()
    lock.describe({service.name: service.url for service in running if service.port})
    pointer = read_pointer(forecast())
    if pointer is None or pointer.retired is not None:
        print(f"No champion under {folder} yet: training one from the data folder.", flush=True)
        if subprocess.run([sys.executable, "-m", "vroom_assets", "materialize"], check=False).returncode:
            print("The first training failed; the messages above say why. Dagster starts anyway.")
    elif count := elsewhere(fail_abandoned_runs):
        print(f"{count} unfinished run(s) of the last start are marked as failed.", flush=True)
    return supervise(running, lock)
