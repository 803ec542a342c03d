"""Spark is started once, as the settings have it, or what is missing is named."""

import sys
from pathlib import Path

import pytest

from tests.support import spark
from vroom_api.contract.environment import BadSetting
from vroom_assets import settings
from vroom_assets.spark import session


@pytest.mark.parametrize(
    "address",
    [
        *("local", "local[2]", "local[*]", "local[2,1]", "local-cluster[2,1,1024]", "yarn"),
        *("spark://one:7077,two:7077", "k8s://https://host:6443", "sc://host:15002/;token=t"),
    ],
)
def test_an_address_is_a_master_or_a_connect_server(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VROOM_SPARK", address)
    assert settings.spark() == address


@pytest.mark.parametrize("address", ["local[two]", "host:7077", "http://host", "spark://", "sc:// host"])
def test_another_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VROOM_SPARK", address)
    with pytest.raises(BadSetting, match=r"^VROOM_SPARK='.+': use a master, e\.g\. local\[2\], "):
        settings.spark()


def test_without_pyspark_the_error_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "pyspark", raising=False)
    with (
        pytest.raises(session.SparkMissing, match="needs pyspark, which is not installed: `make spark`"),
        session.session("sc://127.0.0.1:1"),
    ):
        pass


@spark.needed
def test_without_java_the_error_names_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(session.SparkMissing, match=r"there is none in .*bin: `make spark`.* Java 17"):
        session.require("local[2]")


@spark.needed
def test_an_older_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    java.chmod(0o700)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(session.SparkMissing, match=r"Java 17 or newer, and .*java is 8: "):
        session.require("local[2]")


@pytest.mark.slow
@spark.needed
def test_sessions_share_a_spark_and_no_views() -> None:
    with session.session(spark.LOCAL) as one, session.session(spark.LOCAL) as other:
        one.sql("select 1 as number").createTempView("numbers")
        assert one.catalog.tableExists("numbers")
        assert not other.catalog.tableExists("numbers")
        assert one.sparkContext.applicationId == other.sparkContext.applicationId
        assert one.sparkContext.getConf().get("spark.driver.host") == "127.0.0.1"


@pytest.mark.slow
@spark.needed
def test_a_time_has_no_zone_and_a_wrong_cast_is_an_error() -> None:
    with session.session(spark.LOCAL) as found:
        [row] = found.sql("select typeof(timestamp '2024-03-31 02:30:00') as type").collect()
        assert row.type == "timestamp_ntz"
        with pytest.raises(Exception, match="CAST_INVALID_INPUT"):
            found.sql("select cast('two' as int)").collect()
