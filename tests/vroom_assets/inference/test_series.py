"""`new --ahead`: a column becomes a series, forecast from what was known before."""

from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import yaml
from litestar.testing import TestClient

from tests.support.commands import command
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.contract import forecast_folder
from vroom_assets import declaration
from vroom_assets.inference import writing
from vroom_assets.inference.notation import CannotInfer
from vroom_assets.spec import ColumnType


def inferred(project: Path, rows: list[str], ahead: int = 1):
    file = project / "given.csv"
    file.write_text("\n".join(rows) + "\n")
    series = writing.infer(project / "defs", "mine", [file], "y", None, ahead).series
    declaration.check_parameters(project / "defs" / "mine", declaration.read(project / "defs" / "mine"))
    return series


def level(number: int) -> int:
    return 20 + number % 7 + (number * number) % 5


def months(number: int) -> date:
    """The last day of a month."""
    year, month = divmod(number + 1, 12)
    return date(2005 + year, month + 1, 1) - timedelta(days=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "said", "season", "words"),
    [
        (lambda n: datetime(2023, 1, 1) + timedelta(minutes=15 * n), "15 minutes", 96, ["month", "isodow", "hour"]),
        (lambda n: datetime(2023, 1, 1) + timedelta(hours=n), "1 hour", 24, ["month", "isodow", "hour"]),
        (lambda n: date(2023, 1, 1) + timedelta(days=n), "1 day", 7, ["month", "isodow"]),
        (lambda n: date(2015, 1, 1) + timedelta(weeks=n), "1 week", 52, ["month"]),
        (months, "1 month", 12, ["month"]),
        (lambda n: date(1500 + n, 1, 1), "1 year", 0, []),
    ],
)  # fmt: skip
def test_steps_are_those_of_the_file(project, moment, said, season, words):
    series = inferred(project, ["at,y", *(f"{moment(n)},{level(n)}" for n in range(150))])
    assert (series.step.in_words(1), series.season, list(series.step.words)) == (said, season, words)
    assert series.by == ()
    spec = declaration.read(project / "defs" / "mine")
    assert spec.target.horizon == f"{said} ahead"
    assert ("season_before" in spec.inputs) is (season > 1)


@pytest.mark.parametrize("columns", [["shop"], ["shop", "department"]])
def test_series_are_told_apart_by_as_few_columns_as_do(project, columns):
    header = ["day", "shop", "department", "weather", "y"]
    rows = [
        f"{date(2023, 1, 1) + timedelta(days=n)},{shop},{department},{n % 3},{level(n) + shop}"
        for n in range(60)
        for shop in range(3)
        for department in (("a", "b") if len(columns) > 1 else ("a",))
    ]
    series = inferred(project, [",".join(header), *rows])
    assert [one.name for one in series.by] == columns
    assert series.count == 3 * len(columns)
    spec = declaration.read(project / "defs" / "mine")
    assert spec.inputs[: len(columns)] == columns
    assert all(spec.entity_columns[name].type is ColumnType.CATEGORY for name in columns)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["x,y", *(f"{n % 9},{level(n)}" for n in range(60))], "--ahead is of a series in time, and no column dates"),
        (
            ["at,y", *(f"{date(2023, 1, 1) + timedelta(days=n * n)},{level(n)}" for n in range(30))],
            "steps of at differ; leave it out",
        ),
        (
            ["at,y", *(f"{date(2023, 1, 1) + timedelta(days=n // 2)},{level(n)}" for n in range(80))],
            "no 2 columns tell rows of one time apart",
        ),
        (
            ["at,y", *(f"{date(2023, 1, 1) + timedelta(days=n)},{('yes', 'no')[n * n % 3 == 0]}" for n in range(60))],
            "--ahead is of a number, and y is a yes or no",
        ),
        (
            ["at,last,y", *(f"{date(2023, 1, 1) + timedelta(days=n)},{n % 5},{level(n)}" for n in range(60))],
            "a column is called last, as one of a series is; rename it in the file",
        ),
    ],
)  # fmt: skip
def test_what_is_no_series_is_refused(project, rows, message):
    with pytest.raises(CannotInfer) as refusal:
        inferred(project, rows)
    assert message in str(refusal.value)
    assert list((project / "defs").iterdir()) == list((project / "data").iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("mine", "--ahead", "1"), ("mine", "--from", "x.csv", "--target", "y", "--ahead", "0")]
)
def test_steps_are_of_a_file_and_at_least_one(project, capsys, arguments):
    assert command("new", *arguments) == 2
    assert "--ahead is of a series in a file, 1 or more steps" in capsys.readouterr().err


@pytest.mark.slow
def test_it_trains_on_what_was_known_then_and_answers_by_the_name_of_a_series(project, capsys):
    start, days = date(2023, 1, 1), 200
    values = {("a", n): level(n) for n in range(days)} | {("b", n): 3 * level(n) for n in range(days)}
    del values["a", 50]  # a gap
    rows = [f"{start + timedelta(days=n)},{shop},{y}" for (shop, n), y in values.items()]
    file = project / "sales.csv"
    file.write_text("\n".join(["day,shop,y", *rows]) + "\n")
    assert command("new", "sales", "--from", str(file), "--target", "y", "--ahead", "2") == 0
    assert "series: 2 series, by shop; a row each 1 day; forecast 2 days ahead" in capsys.readouterr().out
    path = project / "defs" / "sales" / "defs.yaml"
    whole = yaml.safe_load(path.read_text())
    for one in whole["attributes"]["candidates"].values():
        for name in {"max_iter", "n_estimators"} & set(one.get("parameters", {})):
            one["parameters"][name] = 20
    path.write_text(yaml.safe_dump(whole))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VROOM_FORECAST", "sales")
        assert command("materialize") == 0
    with duckdb.connect(forecast_folder("sales") / "warehouse.duckdb", read_only=True) as warehouse:
        table = warehouse.execute(
            "select entity_key, input_last, input_before, input_season_before, input_mean_so_far, target from features"
        ).fetchall()
    assert len(table) == len([one for one in values if (one[0], one[1] + 2) in values])
    for key, last, before, season, mean, target in table:
        shop, n = key.split()[0], (date.fromisoformat(key.split()[1][:10]) - start).days
        window = [values[shop, m] for m in range(n, -1, -1) if (shop, m) in values][:7]
        assert (last, before, season) == tuple(values.get((shop, m)) for m in (n, n - 1, n + 2 - 7))
        assert mean == pytest.approx(sum(window) / len(window))
        assert target == values[shop, n + 2]
    with TestClient(create_app(settings_of(project / "home", forecast="sales"))) as client:
        answer = client.post("/predict", json={"entity_id": "b"}).json()
        assert answer["predicted_y"] == pytest.approx(3 * level(days + 1), rel=0.35)
        assert answer["stored"]["as_of"] == f"{start + timedelta(days=days - 1)}T00:00:00"
