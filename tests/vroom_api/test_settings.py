"""Settings come from the environment; a wrong one is named."""

from pathlib import Path

import pytest

from vroom_api.contract.environment import BadSetting, sqlite_url
from vroom_api.contract.tables import open_database
from vroom_api.settings import Settings


def test_without_variables_everything_has_a_default() -> None:
    found = Settings.read({})
    assert found == Settings(
        home=Path("var").absolute(), database_url=sqlite_url(Path("var").absolute() / "serving.db")
    )
    assert (found.host, found.port, found.forecast) == ("127.0.0.1", 8000, "reservations")


def test_variables_are_read(tmp_path: Path) -> None:
    found = Settings.read(
        {
            "VROOM_HOME": str(tmp_path),
            "VROOM_API_PORT": "9001",
            "VROOM_FORECAST": "lap_times",
            "VROOM_WATCH_SECONDS": "2.5",
        }
    )
    assert (found.home, found.port, found.forecast, found.watch_seconds) == (tmp_path, 9001, "lap_times", 2.5)
    assert found.database_url == sqlite_url(tmp_path / "serving.db")


@pytest.mark.parametrize("name", ["a blank", "größe", "a%20b", "100%", "what?", "c#", "it's", "a&b=c;d"])
def test_the_database_is_in_its_home_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    open_database(Settings.read({"VROOM_HOME": str(home)}).database_url).dispose()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert "serving.db" in {path.name for path in home.iterdir()}


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.read({"VROOM_API_PORT": "", "VROOM_HOME": " "}) == Settings.read({})


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("VROOM_API_PORT", "0", "use a whole number from 1 to 65535"),
        ("VROOM_API_PORT", "70000", "use a whole number from 1 to 65535"),
        ("VROOM_API_PORT", "80.5", "use a whole number from 1 to 65535"),
        ("VROOM_LARGEST_BATCH", "many", "use a whole number from 1 to 100000"),
        ("VROOM_WATCH_SECONDS", "nan", "use a number from 0.05 to 3600"),
        ("VROOM_FORECAST", "../secrets", "use the name of a forecast"),
        ("VROOM_MLFLOW_URL", "mlflow.example", "use an address like"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(variable: str, value: str, rule: str) -> None:
    with pytest.raises(BadSetting) as caught:
        Settings.read({variable: value})
    assert str(caught.value).startswith(f"{variable}='{value}'")
    assert rule in str(caught.value)


def test_a_wrong_database_url_is_named_and_its_password_is_not() -> None:
    with pytest.raises(BadSetting) as caught:
        Settings.read({"VROOM_DATABASE_URL": "hunter2 is not a url"})
    assert "VROOM_DATABASE_URL" in str(caught.value)
    assert "hunter2" not in str(caught.value)
