"""How the supervisor chooses ports, before anything is started."""

import os
import socket
from collections.abc import Iterator

import pytest

from vroom_assets.supervisor import PORTS_TRIED, CannotStart, port_of

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
    free = port_of(SETTING, taken)
    capsys.readouterr()
    monkeypatch.setenv(SETTING, "")
    assert port_of(SETTING, free) == free
    assert os.environ[SETTING] == str(free)
    assert capsys.readouterr().out == ""


def test_where_nobody_chose_and_the_usual_port_is_taken_the_next_free_one_is_printed(
    monkeypatch, taken, capsys
):
    monkeypatch.setenv(SETTING, "")
    found = port_of(SETTING, taken)
    assert taken < found < taken + PORTS_TRIED
    assert os.environ[SETTING] == str(found)
    assert (
        capsys.readouterr().out
        == f"Port {taken} is taken: {found} instead; {SETTING}=<port> chooses another.\n"
    )


def test_a_port_that_somebody_chose_and_is_taken_is_refused(monkeypatch, taken):
    monkeypatch.setenv(SETTING, str(taken))
    with pytest.raises(CannotStart, match=f"port {taken} is taken; .* choose another with {SETTING}=<port>"):
        port_of(SETTING, 5000)


@pytest.mark.parametrize("text", ["eighty", "0", "65536", "-1", "80.0", "²"])
def test_what_is_no_port_is_refused(monkeypatch, text):
    monkeypatch.setenv(SETTING, text)
    with pytest.raises(CannotStart, match=f"{SETTING}={text} is no port: use a number from 1 to 65535"):
        port_of(SETTING, 5000)
