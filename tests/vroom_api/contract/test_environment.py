"""Variables are read as what they are meant to be; a wrong value is named with what is allowed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import ROOT
from vroom_api.contract import environment
from vroom_api.contract.environment import BadSetting, Environment


def test_a_variable_is_read_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        monkeypatch.setenv("VROOM_HOME", str(tmp_path / name))
        assert environment.home() == tmp_path / name
        assert environment.database_url() == f"sqlite:///{tmp_path / name / 'serving.db'}"


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_one_counts_as_not_set(text: str) -> None:
    assert environment.home({"VROOM_HOME": text}) == Path("var").absolute()
    assert environment.forecast({"VROOM_FORECAST": text}) == "reservations"
    assert not Environment({"VROOM_API_PORT": text}).is_set("VROOM_API_PORT")


def test_a_file_is_not_a_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSetting, match=r"^VROOM_HOME='.+/file': it is a file; use the path of a folder$"):
        environment.home({"VROOM_HOME": str(tmp_path / "file")})


@pytest.mark.parametrize("text", ["eighty", "0", "65536", "-1", "80.0", "²"])
def test_a_wrong_port_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=f"^VROOM_API_PORT='{text}': use a whole number from 1 to 65535$"):
        Environment({"VROOM_API_PORT": text}).port("VROOM_API_PORT")


@pytest.mark.parametrize("text", ["77a", "-7", "8", "700", "0o77", "99"])
def test_a_wrong_umask_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=f"^VROOM_UMASK='{text}': use 077"):
        environment.umask({"VROOM_UMASK": text})


def test_a_umask_is_octal() -> None:
    assert environment.umask({}) == 0o077
    assert environment.umask({"VROOM_UMASK": "027"}) == 0o027


@pytest.mark.parametrize(
    ("given", "required"),
    [
        ({}, False),
        ({"VROOM_AUTH": "ON"}, True),
        ({"VROOM_HOST": "localhost"}, False),
        ({"VROOM_HOST": "::1"}, False),
        ({"VROOM_HOST": "0.0.0.0"}, True),
        ({"VROOM_HOST": "vroom.example", "VROOM_AUTH": ""}, True),
    ],
)
def test_keys_are_required_where_others_reach_the_service(given: dict[str, str], required: bool) -> None:
    assert environment.keys_required(given) is required


def test_names_of_hosts_are_those_that_requests_are_compared_with() -> None:
    found = Environment({"HOSTS": " Vroom.Example , ::1,[::2], *"}).hosts("HOSTS", (), any_by_star=True)
    assert found == ("vroom.example", "::1", "::2", "*")


@pytest.mark.parametrize(
    "text", ["vroom.example:80", "https://vroom.example", "[::1]:80", "vroom.example:", "größe", "*"]
)
def test_what_is_not_the_name_of_a_host_is_refused(text: str) -> None:
    with pytest.raises(BadSetting) as caught:
        Environment({"HOSTS": f"localhost,{text}"}).hosts("HOSTS", ())
    assert str(caught.value).startswith(f"HOSTS: {text!r}: use names without ports")
    with pytest.raises(BadSetting, match=r"^VROOM_HOST="):
        environment.host({"VROOM_HOST": text})


def test_origins_are_those_that_browsers_send() -> None:
    given = {"ORIGINS": "https://Shop.example, http://localhost:8080"}
    assert Environment(given).origins("ORIGINS", ()) == ("https://shop.example", "http://localhost:8080")


@pytest.mark.parametrize(
    "text", ["shop.example", "https://shop.example/", "https://", "*", "ftp://shop.example"]
)
def test_what_is_not_an_origin_is_refused(text: str) -> None:
    with pytest.raises(BadSetting) as caught:
        Environment({"ORIGINS": text}).origins("ORIGINS", ())
    assert str(caught.value).startswith(f"ORIGINS: {text!r}: use origins without a path")


def test_the_address_of_a_page_may_end_in_a_slash_or_be_unknown() -> None:
    assert environment.pages({}) == (None, None, None)
    found = environment.pages({"VROOM_DAGSTER_URL": "https://tools.example/dagster/"})
    assert found.dagster == "https://tools.example/dagster"


@pytest.mark.parametrize("text", ["tools.example", "javascript:alert(1)", "ftp://tools.example", "http://"])
def test_what_is_not_the_address_of_a_page_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=r"^VROOM_DAGSTER_URL=.*use an address like https://"):
        environment.pages({"VROOM_DAGSTER_URL": text})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("https://one.example/a", ("https://one.example/a",)),
        (" https://one.example,slack://a/b/c ", ("https://one.example", "slack://a/b/c")),
        (
            "https://one.example\n mailtos://b:c@d?to=e@f,g@h",
            ("https://one.example", "mailtos://b:c@d?to=e@f,g@h"),
        ),
        ("a://b, c://d;\te://f", ("a://b", "c://d", "e://f")),
    ],
)
def test_addresses_are_separated_by_blanks_or_by_commas_before_a_scheme(
    text: str, found: tuple[str, ...]
) -> None:
    assert Environment({"ADDRESSES": text}).addresses("ADDRESSES") == found


def test_onnxruntime_sends_and_keeps_nothing(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    script = "from vroom_api.contract import model; import onnxruntime"
    environment = clean | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=True)
    assert [path for path in tmp_path.rglob("*") if "icrosoft" in path.name or "onnx" in path.name] == []
