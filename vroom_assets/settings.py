"""Environment variables that training, its pages and the supervisor read, and those that they hand down.

What the service reads too is in `vroom_api.contract.environment`; docs/settings.md lists all. Each is read when it
is asked for, because the supervisor writes some of them for the processes that it starts.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from vroom_api.contract.environment import (
    BadSetting,
    Environment,
    forecast,
    home,
    keys_required,
    pages,
    sqlite_url,
    umask,
)
from vroom_api.contract.origins import LOOPBACK

_SPARK = re.compile(
    r"local(\[(\*|\d+)(,\d+)?\])?|local-cluster\[\d+,\d+,\d+\]|yarn|(spark|sc)://[^/\s]\S*|k8s://\S+"
)
_MEMORY = re.compile(r"[1-9]\d*(\.\d+)?[KMGT]i?B", re.IGNORECASE)
# Microseconds that all cores together may work, in so many of the clock.
CONTAINER_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def data_folder() -> Path:
    """Where the raw CSVs are: VROOM_DATA, else ``data`` under the working directory.

    Raises:
        BadSetting: it is a file.
    """
    return Environment().folder("VROOM_DATA", "data")


def defs_folder() -> Path:
    """Where the forecasts are declared: VROOM_DEFS, else ``defs`` in this package.

    Raises:
        BadSetting: it is a file.
    """
    return Environment().folder("VROOM_DEFS", Path(__file__).parent / "defs")


def fastf1_cache() -> Path:
    """Where the client of real laps keeps what it has read: FASTF1_CACHE, else ``fastf1`` in the home.

    Raises:
        BadSetting: it is a file.
    """
    return Environment().folder("FASTF1_CACHE", home() / "fastf1")


def training_cores() -> int:
    """How many cores a training may use: VROOM_TRAINING_CORES, else all but one, which the service keeps.

    Raises:
        BadSetting: it is neither a number of cores nor a share of them.
    """
    cores = available_cores()
    return Environment().part_of("VROOM_TRAINING_CORES", cores, 1024) or max(1, cores - 1)


def available_cores() -> int:
    """How many cores this process may use: those that it is bound to, or as many as its container is given time of."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CONTAINER_QUOTA.read_text().split()
    except (OSError, ValueError):
        return bound
    return bound if quota == "max" else max(1, min(bound, int(quota) // int(period)))


def dask_scheduler() -> str | None:
    """The address of a Dask scheduler whose workers fit candidates: VROOM_DASK, None where it is not set.

    Raises:
        BadSetting: it is not such an address.
    """
    return Environment().scheduler("VROOM_DASK")


def warehouse_memory() -> str | None:
    """How much memory DuckDB may use in a run: VROOM_WAREHOUSE_MEMORY, None where it is not set and DuckDB takes up to 80 %.

    Raises:
        BadSetting: it is not an amount.
    """
    text = Environment().text("VROOM_WAREHOUSE_MEMORY", "")
    if text and not _MEMORY.fullmatch(text):
        raise BadSetting(f"VROOM_WAREHOUSE_MEMORY={text!r}: use an amount such as 2GB or 500MB")
    return text or None


def engine() -> str:
    """What checks sources and computes examples and features: VROOM_ENGINE, duckdb or spark.

    Raises:
        BadSetting: it is neither.
    """
    return Environment().choice("VROOM_ENGINE", "duckdb", ("duckdb", "spark"))


def spark() -> str:
    """Where Spark runs: VROOM_SPARK, a master or the address of a Spark Connect server, else the cores of this machine.

    Raises:
        BadSetting: it is neither.
    """
    text = Environment().text("VROOM_SPARK", "local[*]")
    if not _SPARK.fullmatch(text):
        raise BadSetting(
            f"VROOM_SPARK={text!r}: use a master, e.g. local[2], local-cluster[2,1,1024], spark://host:7077, yarn or "
            "k8s://https://host:6443, or a Spark Connect server, e.g. sc://host:15002"
        )
    return text


def java_home() -> str:
    """JAVA_HOME, which names the Java that Spark starts; empty where the PATH does."""
    return Environment().text("JAVA_HOME", "")


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else a SQLite file in the home. MLflow itself refuses what it cannot use."""
    return Environment().text("MLFLOW_TRACKING_URI", sqlite_url(home() / "mlflow" / "mlflow.db"))


def dagster_hosts() -> frozenset[str]:
    """The names under which Dagster's pages answer: those of loopback, and VROOM_DAGSTER_HOSTS.

    Raises:
        BadSetting: one is not the name of a host.
    """
    return frozenset(LOOPBACK) | frozenset(Environment().hosts("VROOM_DAGSTER_HOSTS", ()))


def warm_runs() -> bool:
    """Whether a process that has imported all that a run needs waits for the next one: VROOM_WARM_RUNS.

    Raises:
        BadSetting: it is neither on nor off.
    """
    return Environment().switch("VROOM_WARM_RUNS", True)


def mlflow_port() -> int:
    """The port of MLflow's pages.

    Raises:
        BadSetting: it is not a port.
    """
    return Environment().port("VROOM_MLFLOW_PORT")


def chosen_port(variable: str) -> int | None:
    """The port that a variable names, None where nobody chose one.

    Raises:
        BadSetting: it is not a port.
    """
    found = Environment()
    return found.port(variable) if found.is_set(variable) else None


def check() -> None:
    """Read what the processes of `make run` read, to refuse a wrong value before one of them is started.

    What only the service reads, it refuses itself, and the databases' URLs whoever opens them: the supervisor stays
    small.

    Raises:
        BadSetting: a value is not what its variable allows.
    """
    own = (
        data_folder,
        defs_folder,
        fastf1_cache,
        dagster_hosts,
        training_cores,
        dask_scheduler,
        engine,
        spark,
        warm_runs,
    )
    for read in (home, umask, forecast, keys_required, pages, *own):
        read()


def hand_down(variables: Mapping[str, str]) -> None:
    """Set variables for this process and for every process that it starts."""
    os.environ.update(variables)


def hand_down_addresses(addresses: Mapping[str, str]) -> None:
    """Let every process know where the pages are, where nobody has set under which address people open them."""
    found = Environment()
    hand_down({name: url for name, url in addresses.items() if not found.is_set(name)})


def hand_down_home(folder: Path) -> None:
    """Point this process, and all that it starts, at a home, and tell Dagster and MLflow how to behave in it."""
    hand_down(
        {
            "VROOM_HOME": str(folder),
            "DAGSTER_HOME": str(folder / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            # Eight workers, 1.5 GB, for evaluations of language models that nobody starts here (mlflow#22792).
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "ORT_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "true",
            "PYTHONWARNINGS": "ignore",
            "PYTHONUNBUFFERED": "1",  # a line of a log is there when it is written
        }
    )
    if not Environment().is_set("VROOM_LOG_FORMAT"):
        hand_down({"VROOM_LOG_FORMAT": "console"})  # somebody reads along
