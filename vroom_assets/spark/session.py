"""A session of Spark: on this machine, on a cluster, or behind a Spark Connect server, as VROOM_SPARK has it.

The first session of a process starts Spark, which takes ten seconds, and it stays until the process ends. Each
session has temporary views and settings of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING

from vroom_assets import settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOOPBACK = "127.0.0.1"
OLDEST_JAVA = 17
INSTALL = "`make spark` installs pyspark, and Java 17 or newer is installed by your system (docs/scaling.md)"
# So that SQL means what it means in DuckDB: times without a zone, and errors where ANSI SQL has them.
SQL_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


class SparkMissing(Exception):
    """Spark cannot be started here; the message names what to install."""


@dataclass
class _Application:
    """The Spark of this process."""

    address: str
    root: SparkSession
    scratch: tempfile.TemporaryDirectory[str]


_lock = Lock()
_open: list[_Application] = []  # at most one: a process has one Spark


@contextmanager
def session(address: str | None = None) -> Iterator[SparkSession]:
    """For the length of a block: a session with views of its own, at an address or at VROOM_SPARK.

    Where this process has a Spark at another address, that one is stopped before.

    Raises:
        SparkMissing: pyspark or Java is missing, or Java is too old.
        BadSetting: VROOM_SPARK is not an address.
    """
    address = address or settings.spark()
    with _lock:
        if _open and _open[0].address != address:
            _stop()
        if not _open:
            _open.append(_start(address))
        found = _open[0].root.newSession()
    for name, value in SQL_SETTINGS.items():
        found.conf.set(name, value)
    try:
        yield found
    finally:
        if is_connect(address):  # elsewhere it would end the sessions of all
            found.stop()


def stop() -> None:
    """End the Spark of this process, if it has one; the sessions of it can no longer be used."""
    with _lock:
        _stop()


def is_connect(address: str) -> bool:
    """Whether it is of a Spark Connect server, which has a JVM of its own, and none is started here."""
    return address.startswith("sc://")


def _stop() -> None:
    while _open:
        application = _open.pop()
        application.root.stop()
        application.scratch.cleanup()


def _start(address: str) -> _Application:
    require(address)
    from pyspark.sql import SparkSession

    scratch = tempfile.TemporaryDirectory(prefix="vroom-spark-", ignore_cleanup_errors=True)
    if is_connect(address):
        return _Application(address, SparkSession.builder.remote(address).getOrCreate(), scratch)
    builder = SparkSession.builder.master(address).appName("vroom")
    options = SQL_SETTINGS | {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.warehouse.dir": scratch.name,
    }
    if address.startswith("local"):
        # The workers of local-cluster bind to what this variable names.
        # Workers of Python are of this environment; else they are of the first python3 in the PATH.
        settings.hand_down({"SPARK_LOCAL_IP": LOOPBACK, "PYSPARK_PYTHON": sys.executable})
        options |= {"spark.driver.bindAddress": LOOPBACK, "spark.driver.host": LOOPBACK}
        options |= {"spark.driver.memory": "4g", "spark.sql.shuffle.partitions": "8"}  # few rows, few cores
    for name, value in options.items():
        builder = builder.config(name, value)
    return _Application(address, builder.getOrCreate(), scratch)


def require(address: str) -> None:
    """See that what a Spark at this address needs on this machine is installed.

    Raises:
        SparkMissing: pyspark or Java is missing, or Java is too old.
    """
    if find_spec("pyspark") is None:
        raise SparkMissing(f"Spark needs pyspark, which is not installed: {INSTALL}")
    if is_connect(address):
        return
    home = os.path.join(settings.java_home(), "bin") if settings.java_home() else None
    java = shutil.which("java", path=home)
    if java is None:
        raise SparkMissing(f"Spark needs Java, and there is none in {home or 'the PATH'}: {INSTALL}")
    if (version := _java_version(java)) < OLDEST_JAVA:
        raise SparkMissing(f"Spark needs Java {OLDEST_JAVA} or newer, and {java} is {version}: {INSTALL}")


@cache
def _java_version(java: str) -> int:
    """The major version of a Java, 0 where it does not say."""
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(1\.)?(\d+)', printed)  # Java 8 is "1.8.0"
    return int(found[2]) if found else 0
