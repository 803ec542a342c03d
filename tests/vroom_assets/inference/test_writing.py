"""A file that nobody described becomes a declaration that passes `check` and trains."""

import math
import random
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from litestar.testing import TestClient

from tests.support.commands import command
from tests.support.foreign import FOREIGN
from tests.support.inferred import inferred, table, unlike
from tests.support.service import settings_of
from vroom_api.app import create_app
from vroom_api.contract import Kind, read_pointer
from vroom_assets import declaration
from vroom_assets.inference import writing
from vroom_assets.inference.notation import CannotInfer
from vroom_assets.spec import ONE_CLASS, ColumnType

ROWS = 320


def test_backslashes_before_quotes_and_compression_are_seen(project):
    lines = [f'"a {n % 7}\\" nail, or\\\\",{n % 5},{n * 1.5}' for n in range(ROWS)]
    packed = pa.Codec("zstd").compress("\n".join(["what,n,price", *lines, ""]).encode(), asbytes=True)
    spec = inferred(project, packed, "price")
    assert spec.sources["rows"].format.escape == "\\"
    declared = (project / "defs" / "mine" / "defs.yaml").read_text()
    assert r"# quotes inside cells stand after a backslash (\")" in declared
    assert "# it is compressed by zstd, and read so" in declared
    assert "'a 3\" nail, or\\\\'" in declared or "7 different" in declared


def several_columns(prefix: str, names: list[str], written: str) -> str:
    """Rows that are dated by several columns, in no order of time."""
    moments = [datetime(2023, 1, 1) + timedelta(hours=31 * (n * 37 % ROWS)) for n in range(ROWS)]
    lines = [f"{moment.strftime(written)},{n % 5},{n * 7 % 13}" for n, moment in enumerate(moments)]
    return "\n".join([",".join([*(prefix + name for name in names), "n", "price"]), *lines, ""])


@pytest.mark.parametrize(
    ("prefix", "names", "written", "name", "type"),
    [
        ("arrival_date_", ["year", "month", "day_of_month"], "%Y,%B,%-d", "arrival_date", "date"),
        ("", ["year", "month", "day", "hour"], "%Y,%-m,%-d,%-H", "time", "timestamp"),
        ("", ["Year", "Mon", "Day", "Hour", "Minute"], "%Y,%b,%d,%H,%M", "time", "timestamp"),
        ("", ["year", "month", "day"], "%Y,%m.0,%d.0", "date", "date"),
    ],
)
def test_a_time_that_stands_in_several_columns_dates_the_rows(project, prefix, names, written, name, type):
    spec = inferred(project, several_columns(prefix, names, written), "price")
    column = spec.sources["rows"].columns[name]
    assert (column.type, column.joins) == (type, [prefix + one for one in names])
    assert spec.target.as_of == f"rows.{name}"
    assert spec.validation.order == name
    month = next(one for one in spec.inputs if "mon" in one)
    assert spec.sources["rows"].columns[month].joins == []


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (["year", "month", "day"], "0,%m,%d"),
        (["year", "month", "day"], "%Y,%m,4%d"),
        (["year", "week"], "%Y,%W"),
    ],
)
def test_columns_that_are_no_time_together_stay_what_they_are(project, names, written):
    if "4" in written:  # then year and month are one, of the first day
        spec = inferred(project, several_columns("", names, written), "price")
        assert spec.sources["rows"].columns["date"].joins == ["year", "month"]
        return
    spec = inferred(project, several_columns("", names, written), "price")
    assert spec.target.as_of is None


def test_a_backslash_at_the_end_of_a_cell_escapes_nothing(project):
    lines = [f'"C:\\{n % 7}\\",{n * 1.5}' for n in range(ROWS)]
    spec = inferred(project, "\n".join(["folder,price", *lines, ""]), "price")
    assert spec.sources["rows"].format.escape is None


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_in_the_shape_of_a_public_one_is_declared_and_accepted(project, capsys, name):
    foreign = FOREIGN[name]
    file = project / f"{name}.csv"
    foreign.write(file, ROWS)
    assert command("new", name, "--from", str(file), "--target", foreign.target) == 0
    assert command("check", name, "--data") == 0
    output = capsys.readouterr().out
    assert f"{ROWS:,} of {ROWS:,} rows accepted" in output
    spec = declaration.read(project / "defs" / name)
    assert spec.target.kind is foreign.kind
    columns = spec.entity_columns
    match name:
        case "churn":
            assert (spec.entity.key, columns["total_charges"].nullable) == ("customer_id", True)
            assert "case" not in spec.target_sql  # yes and no are a flag
        case "cancellations":
            assert "left out: reservation_status: LEAK? it alone explains 100.0% of is_canceled" in output
            assert "reservation_status" not in spec.inputs
            assert "company" not in spec.inputs
            assert spec.entity.key == "row"
            assert columns["country"].type is ColumnType.CATEGORY
            assert {"NA", "NULL"} == set(spec.sources["rows"].format.nulls)
        case "rides":
            assert spec.target.as_of == "rows.dteday"
            assert spec.sources["rows"].format.dates == ["%d-%m-%Y"]
        case "houses":
            assert spec.entity.key == "pid"
            assert columns["lot_frontage"].type is ColumnType.INTEGER
            assert columns["neighborhood"].type is ColumnType.CATEGORY
        case "lodgings":
            assert [columns[one].type for one in ("price", "host_is_superhost", "host_response_rate")] == [
                *(ColumnType.CURRENCY, ColumnType.FLAG, ColumnType.PERCENT)
            ]
            assert columns["beds"].type is ColumnType.INTEGER
            assert "name" not in spec.inputs
        case "weekly_sales":
            assert (spec.entity.key, spec.sources["rows"].format.dates) == ("row", ["%d-%m-%Y"])


@pytest.mark.slow
def test_what_is_written_trains_and_answers_without_a_line_edited(project, capsys):
    file = project / "lodgings.csv"
    FOREIGN["lodgings"].write(file, 400)
    text = file.read_text().splitlines(keepends=True)
    text[-1] = text[-1].rsplit(",", 1)[0].removesuffix('"$1') + ",\n"  # its price is not known yet
    file.write_text("".join(text))
    assert command("new", "lodgings", "--from", str(file), "--target", "price") == 0
    shrink(project / "defs" / "lodgings" / "defs.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VROOM_FORECAST", "lodgings")
        assert command("materialize") == 0
    pointer = read_pointer("lodgings", project / "home")
    assert pointer is not None
    with TestClient(create_app(settings_of(project / "home", forecast="lodgings"))) as client:
        model = client.get("/model").json()
        assert model["rows"] == 399
        assert (
            client.post("/predict", json=client.get("/forecasts/lodgings").json()["example"]).status_code
            == 200
        )
        unpriced = text[-2].split(",")[0]  # a row of two lines: its key stands in the first
        stored = client.post("/predict", json={"entity_id": unpriced})
        assert stored.status_code == 200
        interval = stored.json()["interval"]
        assert interval["low"] < stored.json()["predicted_price"] < interval["high"]


def shrink(path: Path) -> None:
    """Fewer trees and folds, for a test's time."""
    whole = yaml.safe_load(path.read_text())
    whole["attributes"]["validation"] = {"folds": 3, "repeats": 1, "inner_folds": 2}
    for one in whole["attributes"]["candidates"].values():
        for name in ("max_iter", "n_estimators"):
            if name in one.get("parameters", {}):
                one["parameters"][name] = 15
    path.write_text(yaml.safe_dump(whole))


NUMBERS = list(range(1, 61))
NOISE = [(7 * number) % 13 for number in NUMBERS]


@pytest.mark.parametrize(
    ("target", "kind", "sql"),
    [
        (["won" if n % 3 else "lost" for n in NUMBERS], Kind.BINARY, "when 'won' then 1 when 'lost' then 0"),
        (["a" if n % 3 else "b" for n in NUMBERS], Kind.BINARY, "when 'b' then 1 when 'a' then 0"),
        ([n % 2 for n in NUMBERS], Kind.BINARY, "    y\n"),
        ([1 + n % 2 for n in NUMBERS], Kind.BINARY, "when 2 then 1 when 1 then 0"),
        ([2 * (n % 2) - 1 for n in NUMBERS], Kind.BINARY, "when 1 then 1 when -1 then 0"),
        ([n % 9 for n in NUMBERS], Kind.COUNT, "    y\n"),
        ([f"{n},5" for n in NUMBERS[::-1]], Kind.REGRESSION, "    y\n"),
        ([f"{1000 + 7 * n % 501}" for n in NUMBERS], Kind.REGRESSION, "    y\n"),
    ],
)
def test_the_kind_of_a_target_is_what_its_values_look_like(project, target, kind, sql):
    spec = inferred(project, table(target, x=NOISE, size=NUMBERS), "y")
    assert spec.target.kind is kind
    assert sql in spec.target_sql
    assert spec.sources["rows"].format.delimiter == ";"


@pytest.mark.parametrize(
    ("content", "target", "kind", "message"),
    [
        (table(NUMBERS, x=NOISE), "z", None, "has no column 'z'; it has x, y"),
        (
            table(["a", "b", "c"] * 20, x=NOISE),
            "y",
            None,
            f"y is a text of 3 values, and a forecast is of a number; {ONE_CLASS}: write --target 'y=…' with one of a, b, c",
        ),
        (
            table(["a", "b", "c"] * 20, x=NOISE),
            "y=d",
            None,
            "y is d in no row; write --target 'y=…' with one of a, b, c",
        ),
        (table(["a", "b", "c"] * 20, x=NOISE), "y=a", Kind.COUNT, "y=a is a yes or no; leave --kind out"),
        (
            table([f"{n}.5" for n in NOISE], x=NOISE),
            "y=1.5",
            None,
            "y is of type number; only of texts and whole numbers",
        ),
        (table(NUMBERS, x=NOISE), "z=1", None, "has no column 'z'; it has x, y"),
        (table([5] * 60, x=NOISE), "y", None, "y is 5 in every row; there is nothing to forecast"),
        (table([f"2024-01-{n % 28 + 1:02}" for n in NUMBERS], x=NOISE), "y", None, "y is a time"),
        (table([f"{n}.5" for n in NOISE], x=NOISE), "y", Kind.COUNT, "is not a valid count target"),
        (
            table(NOISE, x=[1] * 60),
            "y",
            None,
            "nothing is left to forecast y from: x: no input: it is the same",
        ),
        (table(NOISE, x=NOISE, z=[n * 2 for n in NOISE]), "y", None, "LEAK? it alone explains 100.0% of y"),
        (b"", "y", None, "given.csv"),
        (b"\x00\x01\x02", "y", None, "given.csv"),
    ],
)
def test_a_file_of_which_nothing_can_be_made_is_refused_and_nothing_remains(
    project, content, target, kind, message
):
    with pytest.raises(CannotInfer) as refusal:
        inferred(project, content, target, kind)
    assert message in str(refusal.value)
    assert list((project / "defs").iterdir()) == []
    assert list((project / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("target", "wanted", "values", "sql", "yes"),
    [
        (["paid", "open", "late", ""] * 40, "y=paid", None, "(\"y\" = 'paid')::integer as y", 40),
        (["it's", "b=c", "late", "late"] * 40, "y=it's", None, "(\"y\" = 'it''s')::integer as y", 40),
        (["it's", "b=c", "late", "late"] * 40, "y=b=c", None, "(\"y\" = 'b=c')::integer as y", 40),
        ([1, 2, 5, 5] * 40, "y=5", Kind.BINARY, '("y" = 5)::integer as y', 80),
        (["yes", "no", "no", "no"] * 40, "y=No", None, '("y" = 0)::integer as y', 120),
    ],
)
def test_one_value_of_a_target_against_the_others_is_a_yes_or_no(
    project, capsys, target, wanted, values, sql, yes
):
    file = project / "f.csv"
    file.write_text(table(target, x=[n % 17 for n in range(160)]))
    kind = ["--kind", str(values)] if values else []
    assert command("new", "mine", "--from", str(file), "--target", wanted, *kind) == 0
    assert command("check", "mine", "--data") == 0
    given = sum(value != "" for value in target)
    output = capsys.readouterr().out
    assert f"counts as yes, in {yes} of {given} rows, every other value as no" in output
    assert f"y: {given} rows to train on" in output
    spec = declaration.read(project / "defs" / "mine")
    assert spec.target.kind is Kind.BINARY
    assert sql in spec.target_sql
    assert spec.target.unit == wanted.replace("=", " = ", 1)


def test_a_column_whose_name_has_the_sign_is_found_by_it(project):
    spec = inferred(project, table(NUMBERS, x=NOISE).replace("y", "y=z", 1), "y=z")
    assert spec.target.name == "y_z"


@pytest.mark.parametrize(
    ("encode", "format"),
    [
        (lambda text: text.encode("latin-1"), {"encoding": "windows-1252"}),
        (lambda text: text.encode("utf-16"), {"encoding": "utf-16"}),
        (lambda text: b"sep=;\n" + text.encode(), {"skip": 1}),
        (lambda text: text.replace(";", "\t").encode(), {"delimiter": "\t"}),
    ],
)
def test_how_a_file_is_written_is_declared(project, encode, format):
    text = table(NUMBERS, x=NOISE, größe=["groß", "klein", "größer"] * 20)
    spec = inferred(project, encode(text), "y")
    assert {name: getattr(spec.sources["rows"].format, name) for name in format} == format
    assert spec.inputs == ["x", "grosse"]
    assert spec.sources["rows"].columns["grosse"].header == "größe"


def test_names_that_requests_have_already_and_names_that_are_there_twice_get_others(project):
    text = table(NOISE, level=[n % 7 for n in NUMBERS], explain=[n % 5 for n in NUMBERS]).replace(
        "explain;y", "level;y", 1
    )
    spec = inferred(project, text, "y")
    assert len(set(spec.inputs)) == len(spec.inputs) == 2
    assert "level" not in spec.inputs


def test_a_decimal_comma_is_not_taken_for_a_delimiter(project):
    rows = "".join(f"{n}.{n % 9}34,5{n % 10};{n % 7},25;{n * 3 % 11},5\n" for n in range(1, 80))
    spec = inferred(project, f"a;b;y\n{rows}", "y")
    format = spec.sources["rows"].format
    assert (format.delimiter, format.decimal, format.thousands) == (";", ",", ".")
    assert spec.target.kind is Kind.REGRESSION


def test_words_of_yaml_and_of_the_declaration_are_names_like_others(project):
    days = [f"2023-{1 + n % 12:02}-{1 + n % 28:02}" for n in range(60)]
    text = table(
        NOISE,
        day=days,
        yes=NUMBERS[::2] * 2,
        null=[n % 5 for n in NUMBERS],
        known_at=[n % 7 for n in NUMBERS],
    )
    spec = inferred(project, text, "y")
    assert {spec.sources["rows"].columns[name].header for name in spec.inputs} == {"yes", "null", None}
    assert spec.target.known_at == "target_known_at"


def test_a_time_that_lies_ahead_dates_nothing(project):
    days = [f"2999-{1 + n % 12:02}-{1 + n % 28:02}" for n in range(60)]
    spec = inferred(project, table(NOISE, departs=days, x=[n % 7 for n in NUMBERS]), "y")
    assert (spec.target.as_of, spec.validation.order) == (None, None)
    assert command("check", "mine", "--data") == 0


def test_words_between_numbers_mean_nothing_and_more_than_a_few_bad_cells_make_a_text(project):
    numbers = unlike(300, 1)
    text = table(
        unlike(300, 2),
        given=["missing" if n % 5 == 0 else one for n, one in enumerate(numbers)],
        mostly=["--" if n % 2 else one for n, one in enumerate(unlike(300, 3))],
        grade=["ABC"[n % 3] for n in range(300)],
        size=[*(str(n % 4) for n in range(299)), "XL"],  # a slip
    )
    spec = inferred(project, text, "y")
    columns = spec.sources["rows"].columns
    assert spec.sources["rows"].format.nulls == ["--", "missing"]
    assert [columns[name].type for name in ("given", "mostly", "grade", "size")] == [
        *(ColumnType.NUMBER, ColumnType.NUMBER, ColumnType.CATEGORY, ColumnType.INTEGER)
    ]
    assert columns["given"].nullable
    assert command("check", "mine", "--data") == 0


def test_bad_cells_in_many_columns_do_not_make_the_file_refused(project):
    wrong = {
        f"c{column}": [f"{column}wrong" if n == 40 * column else n * 7 % 11 for n in range(300)]
        for column in range(1, 6)
    }
    spec = inferred(project, table(unlike(300, 2), **wrong), "y")
    types = [spec.sources["rows"].columns[name].type for name in wrong]
    assert types.count(ColumnType.INTEGER) == 2  # 2 of 300 rows
    assert command("check", "mine", "--data") == 0


@pytest.mark.parametrize("way", ["%Y%m%d", "%Y%m%dT%H%M%S"])
def test_days_without_marks_between_are_days_where_the_column_is_called_so(project, way):
    days = [(datetime(2020, 1, 1) + timedelta(days=n)).strftime(way) for n in range(80)]
    spec = inferred(project, table(unlike(80, 1), sold_date=days, x=unlike(80, 2)), "y")
    assert spec.validation.order == "sold_date"
    assert command("check", "mine", "--data") == 0


def test_a_first_column_of_large_unlike_numbers_is_a_measure_and_one_that_counts_is_a_key(project):
    counted = table(unlike(60, 1), place=NUMBERS, x=unlike(60, 2))
    assert inferred(project, counted, "y").entity.key == "place"
    shutil.rmtree(project / "defs" / "mine"), shutil.rmtree(project / "data" / "mine")
    measured = table(unlike(60, 1), area=[n * n * 37 % 100_003 for n in NUMBERS], x=unlike(60, 2))
    assert inferred(project, measured, "y").entity.key == "row"


def test_few_shops_are_inputs_and_no_groups_and_many_hosts_are_groups_and_no_input(project):
    text = table(
        unlike(240, 1),
        shop_id=[n % 4 for n in range(240)],
        guests_number=[n % 9 for n in range(240)],
        country_code=["ABCDEFGH"[n * 7 % 8] * 2 for n in range(240)],
        host_id=[n // 4 for n in range(240)],
    )
    spec = inferred(project, text, "y")
    assert spec.inputs == ["shop_id", "guests_number", "country_code"]
    assert spec.validation.group == "host_id"


def test_rows_that_a_time_orders_are_validated_forward_and_rows_of_one_id_stay_together(project):
    days = [f"2024-{1 + n % 12:02}-{1 + n % 28:02}" for n in range(240)]
    ids = [n // 4 for n in range(240)]
    text = table([n * 7 % 11 for n in range(240)], host_id=ids, day=days, x=[n % 17 for n in range(240)])
    ordered = inferred(project, text, "y")
    assert ordered.validation.order == "day"
    assert ordered.target.known_at == "known_at"


def test_a_taken_name_and_a_wrong_use_are_refused(project, capsys):
    file = project / "f.csv"
    file.write_text(table(NUMBERS, x=NOISE))
    assert command("new", "mine", "--from", str(file), "--target", "y") == 0
    assert command("new", "mine", "--from", str(file), "--target", "y") == 2
    assert "is there already" in capsys.readouterr().err
    assert command("new", "other", "--from", str(file)) == 2
    assert "--target" in capsys.readouterr().err


def test_a_file_that_lies_with_the_forecast_s_data_stays_there(project, capsys):
    file = project / "data" / "mine" / "f.csv"
    file.parent.mkdir()
    file.write_text(table(NUMBERS, x=NOISE))
    before = file.stat()
    assert command("new", "mine", "--from", str(file), "--target", "y") == 0
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "f.csv\n" not in capsys.readouterr().out.split("wrote", 1)[1]
    assert command("check", "mine", "--data") == 0


def test_where_the_folder_cannot_be_put_in_its_place_the_data_are_not_left_either(project):
    file = project / "f.csv"
    file.write_text(table(NUMBERS, x=NOISE))
    (project / "defs" / "mine").write_text("a file, not a folder")
    with pytest.raises(NotADirectoryError):
        writing.infer(project / "defs", "mine", [file], "y", None)
    assert list((project / "data").rglob("*.csv")) == []
    assert [path.name for path in (project / "defs").iterdir()] == ["mine"]


def test_check_with_data_lists_every_finding_of_the_csvs(project, capsys):
    file = project / "f.csv"
    file.write_text(table(NUMBERS, x=NOISE))
    assert command("new", "mine", "--from", str(file), "--target", "y") == 0
    copied = project / "data" / "mine" / "f.csv"
    copied.write_text(copied.read_text() + "seven;8\n-1;9\n")
    assert command("check", "mine", "--data") == 1
    output = capsys.readouterr().out
    assert "refused: data/mine/f.csv: 2 of 62 rows are bad" in output
    assert "data/mine/f.csv line 62, column x: 'seven' is not a whole number" in output
    assert "data/mine/f.csv line 63, column x: -1 is not ≥ 0" in output


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "max_leaf_nodes",
            "loss: gamma, max_leaf_nodes",
            "candidate boosting: loss gamma is for targets above 0, and one is -",
        ),
        (
            "kind: regression",
            "kind: binary",
            f"yes is 1 and no is 0, and {ONE_CLASS}: write `(… = ",
        ),
    ],
    ids=["a loss", "several values"],
)
def test_check_with_data_says_what_targets_a_training_would_not_take(project, capsys, old, new, says):
    file = project / "f.csv"
    file.write_text(table([n % 7 - 3 for n in range(240)], x=[n % 17 for n in range(240)]))
    assert command("new", "mine", "--from", str(file), "--target", "y") == 0
    (project / "defs" / "mine" / "target.sql").write_text("select row, y + 0 as y from rows")
    declared = project / "defs" / "mine" / "defs.yaml"
    text = declared.read_text().replace(old, new, 1)
    if "binary" in new:
        text = text.replace("family: boosting", "family: binary_boosting").replace(
            "family: linear", "family: logistic"
        )
        text = text.replace("alpha", "C")
    declared.write_text(text)
    assert command("check", "mine") == 0
    assert command("check", "mine", "--data") == 1
    assert f"refused: {says}" in re.sub("target.sql: -3 for row [0-9]+; ", "", capsys.readouterr().out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VROOM_FORECAST", "mine")
        assert command("materialize") == 1
    assert says.partition(":")[0] in capsys.readouterr().err


def test_a_text_of_several_values_is_no_target_even_if_it_is_cast(project, capsys):
    file = project / "f.csv"
    file.write_text(table(NUMBERS, x=NOISE, species=[("setosa", "virginica", "7")[n % 3] for n in NUMBERS]))
    assert command("new", "mine", "--from", str(file), "--target", "y") == 0
    (project / "defs" / "mine" / "target.sql").write_text("select row, species::double as y from rows")
    assert command("check", "mine", "--data") == 1
    output = capsys.readouterr().out
    assert "Could not convert string 'virginica' to DOUBLE" in output
    assert "or of 1 for one of several values and 0 for the others" in output


@pytest.mark.parametrize(
    ("shift", "is_skewed"), [(0.0, True), (-3000.0, False)], ids=["above 0", "some below"]
)
def test_amounts_that_are_skewed_are_forecast_by_their_logarithm_too(project, capsys, shift, is_skewed):
    draw = random.Random(1)
    rent = [round(math.exp(draw.gauss(7, 0.8)) + shift, 2) for _ in range(300)]
    file = project / "f.csv"
    file.write_text(table(rent, x=unlike(300, 2)))
    assert command("new", "mine", "--from", str(file), "--target", "y") == 0
    assert (
        "candidates: log_linear: the target is above 0 and skewed (" in capsys.readouterr().out
    ) is is_skewed
    assert command("check", "mine", "--data") == 0
    spec = declaration.read(project / "defs" / "mine")
    assert ("log_linear" in spec.candidates) is is_skewed
    assert (spec.entity_columns["y"].above == 0) is is_skewed
    even = table(unlike(300, 1), x=unlike(300, 2))
    (project / "other").mkdir()
    file = project / "other" / "even.csv"
    file.write_text(even)
    assert command("new", "even", "--from", str(file), "--target", "y") == 0
    assert "log_linear" not in declaration.read(project / "defs" / "even").candidates


def test_numbers_of_times_are_features_unless_the_time_is_one_of_afterwards(project):
    start = datetime(2023, 11, 1)
    rows = [
        f"{start + timedelta(hours=5 * n):%Y-%m-%d %H:%M},{start + timedelta(days=n):%Y-%m-%d},"
        f"{start + timedelta(hours=5 * n + n % 3):%Y-%m-%d %H:%M},{n % 4},{(start + timedelta(hours=5 * n)).hour + 7 * n % 31}"
        for n in range(200)
    ]
    spec = inferred(project, "\n".join(["picked_up,Booked for,dropoff_at,seats,fare", *rows]) + "\n", "fare")
    assert spec.inputs == ["picked_up", "booked_for", "seats"]
    assert {feature.name: feature.expression for feature in spec.features} == {
        "seats": "seats",
        "picked_up_month": "MONTH(picked_up)",
        "picked_up_isodow": "ISODOW(picked_up)",
        "picked_up_hour": "HOUR(picked_up)",
        "booked_for_month": "MONTH(booked_for)",
        "booked_for_isodow": "ISODOW(booked_for)",
        "days_from_picked_up_to_booked_for": "DATE_DIFF('DAY', picked_up, booked_for)",
        "days": "DATE_DIFF('DAY', CAST('2023-11-01' AS TIMESTAMP), picked_up)",
    }
    growing = spec.candidates["boosting_with_trend"]
    assert growing.trend == "days"
    assert not {"picked_up_month", "booked_for_month", "days"} & set(growing.features)
    assert "days" not in spec.candidates["boosting"].features


def test_blanks_around_texts_mean_nothing_also_in_the_target(project, capsys):
    rows = [
        f"{20 + n % 40}, {('Private', 'State-gov')[n % 2]}, {('<=50K', '>50K')[n * 7 % 3 == 0]}"
        for n in range(120)
    ]
    (project / "adult.csv").write_text("\n".join(["age, workclass, income", *rows]) + "\n")
    assert command("new", "adult", "--from", str(project / "adult.csv"), "--target", "income") == 0
    assert command("check", "adult", "--data") == 0
    assert "income: 120 rows to train on" in capsys.readouterr().out
    spec = declaration.read(project / "defs" / "adult")
    assert spec.sources["rows"].format.trim
    assert "when '>50K' then 1 when '<=50K' then 0" in spec.target_sql


def test_a_column_is_found_by_its_name_in_the_file_also_where_others_have_none(project):
    rows = [f"{n % 9},5;{(n * 3) % 17},1;;" for n in range(80)]
    spec = inferred(project, "\n".join(["T(°C);CO(GT);;", *rows]) + "\n", "CO(GT)")
    assert (spec.target.name, spec.inputs) == ("co_gt", ["t_c"])


def test_columns_that_stand_apart_by_blanks_are_refused_with_what_makes_a_csv_of_them(project):
    lines = [f" {n / 7:.4f}   {n % 5}  {n % 11:3d}" for n in range(1, 60)]
    with pytest.raises(
        CannotInfer,
        match=r"stand apart by blanks.*`sed -E 's/\^ \+//; s/ \+/,/g' given.csv > given-commas.csv`",
    ):
        inferred(project, "\n".join(["a b y", *lines]) + "\n", "y")


def test_an_id_that_comes_again_in_time_is_a_category_and_one_that_does_not_is_left_out(project):
    start = datetime(2023, 1, 1)
    rows = [
        f"{start + timedelta(hours=n)},{100 + n % 60},{n % 900},{(n % 60) % 7 + n % 5}" for n in range(1800)
    ]
    spec = inferred(project, "\n".join(["at,zone_id,visitor_id,fare", *rows]) + "\n", "fare")
    assert spec.entity_columns["zone_id"].type is ColumnType.CATEGORY
    assert "zone_id" in spec.inputs
    assert "visitor_id" not in spec.inputs


def test_numbers_that_mean_that_nothing_was_measured_are_none(project):
    rows = [
        f"{-200 if n % 9 == 0 else n % 13},{-999 if n % 10 == 0 else n % 30 - 15},{n % 7 - 3}"
        for n in range(90)
    ]
    spec = inferred(project, "\n".join(["co,level,y", *rows]) + "\n", "y")
    assert spec.sources["rows"].format.nulls == ["-200", "-999"]
    assert spec.entity_columns["co"].nullable
    text = (project / "defs" / "mine" / "defs.yaml").read_text()
    assert "# -200 means nothing: it lies far below all other numbers" in text


def test_a_low_number_that_some_column_has_among_others_is_a_number(project):
    rows = [f"{-200 if n % 9 == 0 else n % 13},{10 * (n % 50) - 300},{n % 7}" for n in range(90)]
    spec = inferred(project, "\n".join(["co,balance,y", *rows]) + "\n", "y")
    assert spec.sources["rows"].format.nulls == []


@pytest.mark.parametrize(
    ("first", "days", "dates"),
    [("ordered", 4, "ordered"), ("birth_date", 4, "shipped"), ("opened", 2000, "shipped")],
)
def test_rows_are_dated_by_when_they_began(project, first, days, dates):
    start = datetime(2015, 1, 1)
    rows = [
        f"{start + timedelta(days=n // 2):%Y-%m-%d},{start + timedelta(days=n + days + n % 3):%Y-%m-%d %H:%M},{n % 7},{n % 11 + n % 5}"
        for n in range(200)
    ]
    spec = inferred(project, "\n".join([f"{first},shipped,size,y", *rows]) + "\n", "y")
    assert spec.validation.order == dates
    assert spec.target.as_of == f"rows.{dates}"


@pytest.mark.parametrize(("unit", "way"), [(1, "%s"), (1000, "%Q")])
def test_numbers_that_count_time_are_times(project, unit, way):
    rows = [f"{(1_500_000_000 + 40_000 * n) * unit},{n % 7},{(n * n) % 11}" for n in range(200)]
    spec = inferred(project, "\n".join(["timestamp,size,y", *rows]) + "\n", "y")
    assert spec.sources["rows"].format.dates == [way]
    assert spec.validation.order == "timestamp"
    assert [feature.name for feature in spec.features] == [
        *("size", "timestamp_month", "timestamp_isodow", "timestamp_hour", "days"),
    ]


def test_a_number_called_time_that_counts_something_else_stays_one(project):
    spec = inferred(
        project, table(NOISE, time=[n % 20 for n in NUMBERS], runtime=[n * 7 % 30 for n in NUMBERS]), "y"
    )
    assert {"time", "runtime"} == set(spec.inputs)
    assert spec.target.as_of is None
