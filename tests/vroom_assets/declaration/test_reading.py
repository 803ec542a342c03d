"""A wrong declaration is refused with file, line, field and remedy, and stops no other forecast."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import jsonschema_rs
import pytest
import yaml
from pydantic import BaseModel

from tests.support.project import ROOT, copy
from vroom_api.contract import OPTIONS
from vroom_assets import __main__, declaration, spec
from vroom_assets.declaration import DeclarationError, DeclarationFile, scaffold
from vroom_assets.definitions import defs
from vroom_assets.spec import ONE_CLASS

SHIPPED = ROOT / "vroom_assets" / "defs"
DOCUMENT = ROOT / "docs" / "forecasts.md"


class Wrong(NamedTuple):
    """An edit of a shipped file, the text on the line that has to be named, and what the message has to contain."""

    name: str
    edit: tuple[str, str]
    at: str
    says: str
    remedy: str
    forecast: str = "reservations"
    file: str = "defs.yaml"


GLM = "    glm:\n      family: poisson_glm\n"
WRONG = [
    Wrong("not YAML", ("  sources:\n", "  sources: [\n"), "", "it is not valid YAML", "look at the indentation"),
    Wrong("a tab", ("  title: R", "\ttitle: R"), "\ttitle: R", "it is not valid YAML", "look at the indentation"),
    Wrong("a key twice", (GLM, GLM + GLM.replace("poisson_glm", "forest").replace("    glm:\n", "    ebm:\n")), "    ebm:", "ebm: it is given twice", "remove one"),
    Wrong("another type", ("forecast.Forecast", "forecast.Forcast"), "type: ", "type: it should be 'vroom_assets.forecast.Forecast'", "it should be"),
    Wrong("unknown field", ("  owner:", "  ownr: x\n  owner:"), "ownr", "ownr: there is no such field", "did you mean owner?"),
    Wrong("unknown inner field", ("kind: count", "kind: count\n    knd: 1"), "knd", "target.knd: there is no such field", "did you mean kind?"),
    Wrong("unknown top field", ("attributes:", "atributes: {}\nattributes:"), "atributes", "atributes: there is no such field", "did you mean attributes?"),
    Wrong("missing field", ("    horizon: one calendar year\n", ""), "target:", "target.horizon: is missing", "add it: the period that the number covers"),
    Wrong("missing owner", ("  owner: team:marketplace\n", ""), "attributes:", "owner: is missing", "an e-mail address or `team:<name>`"),
    Wrong("bad owner", ("team:marketplace", "marketplace"), "owner:", "owner: 'marketplace' is not a valid owner", "write an e-mail address or `team:<name>`"),
    Wrong("unknown kind", ("kind: count", "kind: counts"), "kind: counts", "target.kind: it should be 'count', 'regression' or 'binary'; it is 'counts'", "it should be"),
    Wrong("unknown type", ("{type: timestamp,", "{type: datetime,"), "datetime", "sources.reservations.columns.created_at.type: it should be 'integer'", "it is 'datetime'"),
    Wrong("a word for a number", ("vehicle_id: {type: integer, minimum: 1,", "vehicle_id: {type: integer, minimum: one,"), "minimum: one", "sources.vehicles.columns.vehicle_id.minimum: it should be a valid number", "it is 'one'"),
    Wrong("an empty range", ("minimum: 0, maximum: 100,", "minimum: 200, maximum: 100,"), "num_images:", "columns.num_images: no value is ≥ 200 and ≤ 100", "below the upper one"),
    Wrong("values of a number", ("photos in the listing,", "photos in the listing, values: [a],"), "photos in the listing", "columns.num_images.values: they are for texts", "give a column of type integer a range"),
    Wrong("a number among texts", ("values: [dry, rain]", "values: [120, rain]"), "values: [120", "columns.weather.values.0: 120 is not a text", "put it into quotes", "lap_times"),
    Wrong("a reference to nothing", ("references: vehicles.vehicle_id", "references: vehicles.id"), "references:", "reservations.columns.vehicle_id.references: 'id' is not declared", "use one of vehicle_id"),
    Wrong("unknown entity", ("source: vehicles,", "source: cars,"), "entity:", "entity.source: 'cars' is not declared", "use one of vehicles, reservations"),
    Wrong("a key that repeats", ("unique: true, ", ""), "entity:", "entity.key: vehicle_id identifies a row", "declare it `unique: true`"),
    Wrong("unknown input", ("inputs: [technology,", "inputs: [color,"), "inputs:", "inputs: 'color' is not declared", "use one of vehicle_id, technology"),
    Wrong("unknown input in a list", ("inputs: [technology, actual_price, recommended_price, num_images, street_parked, description]", "inputs:\n    - technology\n    - days"), "    - days", "inputs: 'days' is not declared", "use one of vehicle_id, technology"),
    Wrong("a target of no time", ("as_of: reservations.created_at", "as_of: reservations.vehicle_id"), "as_of:", "target.as_of: reservations.vehicle_id is of type integer", "name a column of type timestamp"),
    Wrong("another name", ("name: reservations\n  title", "name: bookings\n  title"), "name: bookings", "name: 'bookings' is declared in the folder 'reservations'", "give both one name"),
    Wrong("a misspelled name", ("name: reservations\n  title", "name: Reservations!\n  title"), "name: Reservations!", "name: 'Reservations!' is not a valid name", "use lower-case letters"),
    Wrong("a candidate's name", ("    glm:", "    GLM:"), "    GLM:", "candidates: 'GLM' is not a valid name", "use lower-case letters"),
    Wrong("a table of Vroom's", ("    vehicles:\n      path", "    features:\n      path"), "", "'vehicles' is not declared", "use one of features"),
    Wrong("a family of another kind", ("family: poisson_glm", "family: logistic"), "family: logistic", "candidates.glm.family: logistic is not for a count", "use one of average"),
    Wrong("a fallback that needs what it lacks", ("    candidate: listing_only", "    candidate: history"), "    candidate: history", "fallback.candidate: history reads the feature log_rate, which needs days_listed, reservations_so_far", "choose a candidate that does without", "upcoming_reservations"),
    Wrong("a fallback without what is not an input", ("    without: [days_listed,", "    without: [age,"), "    without: [age", "fallback.without: 'age' is not declared", "use one of technology", "upcoming_reservations"),
    Wrong("examples with a header", ("        as_of: {type: timestamp, description: when this was known}", "        as_of: {type: timestamp, header: known at, description: when this was known}"), "header: known at", "examples.histories.columns.as_of.header: a table of examples is not a file", "leave it out", "upcoming_reservations"),
    Wrong("examples joined of columns", ("        as_of: {type: timestamp, description: when this was known}", "        as_of: {type: timestamp, joins: [Y, M, D, H], description: when this was known}"), "joins: [Y", "examples.histories.columns.as_of.joins: a table of examples is not a file", "name the time in the statement", "upcoming_reservations"),
    Wrong("examples numbered by rows", ("        example_id: {type: text, unique: true,", "        example_id: {type: row, unique: true,"), "type: row", "examples.histories.columns.example_id.type: rows of a table of examples have no numbers", "declare a column that tells them apart", "upcoming_reservations"),
    Wrong("examples that are not declared", ("source: histories,", "source: history,"), "entity:", "entity.source: 'history' is not declared", "use one of vehicles, reservations, histories", "upcoming_reservations"),
    Wrong("an id that is not a column", ("id: vehicle_id}", "id: vehicle}"), "entity:", "entity.id: 'vehicle' is not declared", "use one of example_id", "upcoming_reservations"),
    Wrong("unknown member", ("members: [broad_forest, glm]", "members: [broad, glm]"), "members:", "candidates.forest_and_glm.members: 'broad' is not declared", "use one of deep_forest"),
    Wrong("no members", ("members: [broad_forest, glm]", "members: []"), "members:", "candidates.forest_and_glm.members: an average needs members", "name the candidates"),
    Wrong("an unknown feature", ("num_images, street_parked, description, price_diff]", "num_images, street_parkd]"), "street_parkd", "candidates.deep_forest.features: 'street_parkd' is not a feature", "features.sql has technology"),
    Wrong("an unknown term", ("log_price_ratio ^ 2,", "log_price ^ 2,"), "log_price ^ 2", "candidates.glm.terms.3: 'log_price' is not a feature", "features.sql has technology"),
    Wrong("a term that is no product", ("log_price_ratio ^ 2,", "log_price_ratio + 2,"), "log_price_ratio + 2", "candidates.glm.terms.3: 'log_price_ratio + 2' is not a product of its features", "write `a`, `a * b` or `a ^ 2`"),
    Wrong("a term of a feature that is not the candidate's", ("      terms: [technology,", "      features: [technology, num_images, log_price_ratio]\n      terms: [street_parked,"), "      terms:", "candidates.glm.terms.0: 'street_parked' is not a product of its features", "write `a`, `a * b` or `a ^ 2`"),
    Wrong("a column like none", ("{like: vehicles.technology}", "{like: vehicles.technlogy}"), "technlogy", "examples.histories.columns.technology.like: 'vehicles.technlogy' is not a column of a source", "write <source>.<column>", "upcoming_reservations"),
    Wrong("a column like one that is like another", ("        num_images: {type: integer, minimum: 0, maximum: 100, description: photos in the listing, unit: photos}", "        num_images: {like: vehicles.technology}"), "num_images: {like: vehicles.num_images}", "examples.histories.columns.num_images.like: 'vehicles.num_images' is not a column of a source that says itself", "of one that does", "upcoming_reservations"),
    Wrong("a column of no type", ("{type: integer, minimum: 0, maximum: 100,", "{minimum: 0, maximum: 100,"), "num_images:", "sources.vehicles.columns.num_images.type: is missing", "add it"),
    Wrong("no inputs", ("  inputs: [technology, actual_price, recommended_price, num_images, street_parked, description]\n", ""), "attributes:", "inputs: is missing", "columns of the entity's source that a caller sends"),
    Wrong("an unknown offset", ("family: poisson_boosting", "family: poisson_boosting\n      offset: rate"), "offset: rate", "candidates.boosting.offset: 'rate' is not a feature", "features.sql has"),
    Wrong("a calibration of a count", ("family: poisson_boosting", "family: poisson_boosting\n      calibration: isotonic"), "calibration:", "candidates.boosting.calibration: it is for a binary target", "leave it out"),
    Wrong("a group that is not there", ("validation: {group: vehicle_id,", "validation: {group: vehicle,"), "validation:", "validation.group: 'vehicle' is not declared", "use one of example_id", "upcoming_reservations"),
    Wrong("an order without known_at", ("    known_at: resolved_at\n", ""), "target:", "target.known_at: ordered validation", "name the column of target.sql", "market_resolution"),
    Wrong("an unknown reference", ("reference: market\n", "reference: markt\n"), "reference: markt", "gates.reference: 'markt' is not declared", "use one of market,", "market_resolution"),
    Wrong("no folds", ("folds: 4, inner", "folds: 1, inner"), "folds: 1", "validation.folds: it should be greater than or equal to 2; it is 1", "it should be", "upcoming_reservations"),
    Wrong("a cron", ("  candidates:\n    deep", "  automation: {schedule: daily at four}\n  candidates:\n    deep"), "automation:", "automation.schedule: 'daily at four' is not a valid cron expression", "write five fields"),
    Wrong("a lever", ("lever: actual_price", "lever: price"), "lever:", "advice.price.lever: 'price' is not declared", "use one of technology"),
    Wrong("ages", ("stale_after_days: 30", "stale_after_days: 300"), "model_age:", "freshness.model_age.expired_after_days: 180 comes before stale_after_days, 300", "comes before"),
    Wrong("text from a file", ("  inputs: [", "  features_sql: select 1\n  inputs: ["), "features_sql", "features_sql: it is read from the .sql file", "leave it out"),
    Wrong("a feature of nothing", ("ln(actual_price / recommended_price)", "ln(actual_price / advice)"), "advice", "feature log_price_ratio: advice is not an input", "the inputs are technology", file="features.sql"),
    Wrong("a feature that is not offered", ("    num_images,\n", "    sin(num_images) as num_images,\n"), "sin", "SIN(num_images) is not offered here", "use + - * /", file="features.sql"),
    Wrong("a feature without a name", (" as price_diff", ""), "actual_price - ", "give actual_price - recommended_price a name", "with `as`", file="features.sql"),
    Wrong("a target of an unknown column", ("count(reservations.vehicle_id)", "count(reservations.car_id)"), "car_id", "car_id", "correct the statement", file="target.sql"),
    Wrong("a target of an unknown table", ("left join reservations", "left join bookings"), "bookings", "Table with name bookings does not exist", "it may read vehicles, reservations", file="target.sql"),
    Wrong("a target of another name", ("as reservations", "as bookings"), "", "it gives no column reservations, which target.name names", "select one, it has vehicle_id, bookings", file="target.sql"),
    Wrong("a target that is a text", ("count(reservations.vehicle_id)", "list(reservations.vehicle_id)"), "", "column reservations is a BIGINT[], and target.name asks for a number", "cast it", file="target.sql"),
    Wrong("no SQL", ("left join reservations", "left join join"), "", "syntax error", "correct the statement", file="target.sql"),
    Wrong("examples without a column", ("as days_listed", "as days"), "", "it gives no column days_listed, which examples.histories.columns names", "select one, it has example_id", "upcoming_reservations", "histories.sql"),
    Wrong("examples of an unknown column", ("vehicles.num_images,", "vehicles.images,"), "vehicles.images", "images", "correct the statement", "upcoming_reservations", "histories.sql"),
    Wrong("an input twice", ("inputs: [technology,", "inputs: [technology, technology,"), "inputs:", "inputs: technology is there twice", "name it once"),
    Wrong("a range of a time", ("{type: timestamp, description: when the reservation", "{type: timestamp, minimum: 2020, description: when the reservation"), "created_at:", "sources.reservations.columns.created_at: a timestamp has a period", "write earliest and latest"),
    Wrong("a period of a number", ("{type: number, above: 0,", "{type: number, earliest: 2020-01-01, above: 0,"), "actual_price:", "sources.vehicles.columns.actual_price: a number has no period", "leave earliest and latest out"),
    Wrong("a period that ends before it begins", ("{type: timestamp, description: when the reservation", "{type: timestamp, earliest: 2024-01-01, latest: 2023-01-01, description: when the reservation"), "earliest: 2024", "created_at.earliest: 2024-01-01 00:00:00 comes after latest, 2023-01-01 00:00:00", "comes after"),
    Wrong("a time with a zone", ("{type: timestamp, description: when the reservation", "{type: timestamp, earliest: 2024-01-01T00:00:00Z, description: when the reservation"), "earliest: 2024", "created_at.earliest: it should not have timezone info", "it is"),
    Wrong("a value that is no text", ("{type: integer, minimum: 0, maximum: 1, description: 1 if the vehicle opens", "{type: text, values: [yes, 120], description: 1 if the vehicle opens"), "values: [yes", "technology.values.1: 120 is not a text", "put it into quotes"),
    Wrong("a number in quotes as a parameter", ("max_iter: 80", "max_iter: '80'"), "max_iter: '80'", "candidates.boosting.parameters.max_iter: '80' is a text", "write 80, without quotes"),
    Wrong("a number that YAML takes for a text", ("max_iter: 80", "l2_regularization: 1e-7"), "1e-7", "candidates.boosting.parameters.l2_regularization: '1e-7' is a text", "write 0.0000001, without quotes and exponent"),
    Wrong("too many values to try", ("max_iter: 80", "max_iter: [20, 40, 80, 160, 320], l2_regularization: [1, 2, 3]"), "max_iter: [20", "candidates.boosting.parameters: 15 combinations of values are too many (5 of max_iter × 3 of l2_regularization)", "leave at most 12"),
    Wrong("no value to try", ("max_iter: 80", "max_iter: []"), "max_iter: []", "candidates.boosting.parameters.max_iter: the list is empty", "write the values to try"),
    Wrong("a value to try twice", ("max_iter: 80", "max_iter: [80, 80]"), "max_iter: [80", "candidates.boosting.parameters.max_iter: a value is there twice", "write it once"),
    Wrong("a list as a value to try", ("max_iter: 80", "max_iter: [[80], 90]"), "max_iter: [[80", "candidates.boosting.parameters.max_iter: each of several values is a number", "a word, true, false or null"),
    Wrong("values of what takes a list", ("interactions: 1,", "interactions: [1, 2],"), "interactions: [1", "candidates.ebm.parameters.interactions: a list here names pairs", "write one number"),
    Wrong("a logarithm of a count", ("family: poisson_boosting", "family: forest\n      transform: log"), "transform: log", "candidates.boosting.transform: it is for a regression", "leave it out"),
    Wrong("a transform that there is not", ("family: poisson_boosting", "family: forest\n      transform: sqrt"), "transform: sqrt", "candidates.boosting.transform: it should be 'log'", "it is 'sqrt'"),
    Wrong("a target that is a word", ("count(reservations.vehicle_id)", "max('many')"), "", f"column reservations is a text, and a forecast is of a number; {ONE_CLASS}", "write `(reservations = '…')::integer as reservations`", file="target.sql"),
    Wrong("bins of nothing", ("    ebm:\n", "    steps: {family: poisson_glm, features: [price_diff], bins: {price: 8}}\n    ebm:\n"), "    steps:", "candidates.steps.bins.price: 'price' is not one of the candidate's features (price_diff)", "name one, or add it there"),
    Wrong("bins of what is not a feature", ("    ebm:\n", "    steps: {family: poisson_glm, bins: {price: 8}}\n    ebm:\n"), "    steps:", "candidates.steps.bins.price: 'price' is not a feature", "features.sql has technology"),
    Wrong("ranks of nothing", ("    ebm:\n", "    steps: {family: poisson_glm, features: [price_diff], ranks: [price]}\n    ebm:\n"), "    steps:", "candidates.steps.ranks.0: 'price' is not one of the candidate's features (price_diff)", "name one, or add it there"),
    Wrong("one bin", ("    ebm:\n", "    steps: {family: poisson_glm, features: [price_diff], bins: {price_diff: 1}}\n    ebm:\n"), "    steps:", "candidates.steps.bins.price_diff: it should be greater than or equal to 2; it is 1", "it should be"),
    Wrong("too many bins", ("    ebm:\n", "    steps: {family: poisson_glm, features: [price_diff], bins: {price_diff: 256}}\n    ebm:\n"), "    steps:", "candidates.steps.bins.price_diff: it should be less than or equal to 255; it is 256", "it should be"),
    Wrong("bins of trees", ("family: poisson_boosting", "family: poisson_boosting\n      bins: {price_diff: 8}"), "bins:", "candidates.boosting.bins: it is not for poisson_boosting", "use one of linear, logistic, poisson_glm, gamma_glm, tweedie_glm, or leave it out"),
    Wrong("ranks of trees", ("family: poisson_boosting", "family: poisson_boosting\n      ranks: [price_diff]"), "ranks:", "candidates.boosting.ranks: it is not for poisson_boosting", "or leave it out"),
    Wrong("bins and ranks of one", ("    ebm:\n", "    steps: {family: poisson_glm, features: [price_diff], bins: {price_diff: 8}, ranks: [price_diff]}\n    ebm:\n"), "    steps:", "candidates.steps.bins.price_diff: price_diff is in ranks too", "leave one of the two out"),
    Wrong("a term of bins", ("    ebm:\n", "    steps: {family: poisson_glm, features: [price_diff, num_images], bins: {price_diff: 8}, terms: [num_images * price_diff]}\n    ebm:\n"), "    steps:", "candidates.steps.terms.0: price_diff enters as bins, which are terms of their own", "leave it out of 'num_images * price_diff', or give it another name in features.sql"),
    Wrong("a rank that no term names", ("    ebm:\n", "    steps: {family: poisson_glm, features: [price_diff, num_images], ranks: [price_diff], terms: [num_images]}\n    ebm:\n"), "    steps:", "candidates.steps.ranks.0: price_diff is in none of the terms", "add it to `terms`"),
    Wrong("a file read by a statement", ("from vehicles", "from read_csv('data/reservations/vehicles.csv') as vehicles"), "read_csv", "disabled by configuration", "correct the statement", file="target.sql"),
]  # fmt: skip


@pytest.fixture
def forecasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped declarations, as VROOM_DEFS."""
    copy(tmp_path, "vroom_assets/defs")
    folder = tmp_path / "vroom_assets" / "defs"
    monkeypatch.setenv("VROOM_DEFS", str(folder))
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r} any more"
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_what_is_wrong_is_said_with_file_line_field_and_remedy(forecasts, wrong):
    path = forecasts / wrong.forecast / wrong.file
    edit(path, *wrong.edit)
    with pytest.raises(DeclarationError) as refusal:
        declaration.read(path.parent)
    found_message = str(refusal.value)
    assert wrong.says in found_message
    assert wrong.remedy in found_message
    line = next(line for line in found_message.splitlines() if wrong.says in line)
    position = re.match(rf"{re.escape(str(path))}:(\d+): ", line)
    assert position, f"{found_message} does not begin with file and line"
    if wrong.at:
        assert wrong.at.rstrip("\n") in path.read_text().splitlines()[int(position[1]) - 1]


def test_without_the_extra_a_candidate_of_lightgbm_is_refused_at_its_line(forecasts, monkeypatch):
    path = forecasts / "reservations" / "defs.yaml"
    edit(path, "family: poisson_boosting", "family: poisson_lightgbm")
    edit(
        path,
        "{max_iter: 80, learning_rate: 0.06, max_leaf_nodes: 4, min_samples_leaf: 25}",
        "{num_leaves: 4}",
    )
    spec = declaration.read(path.parent)
    declaration.check_parameters(path.parent, spec)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(DeclarationError) as refusal:
        declaration.check_parameters(path.parent, spec)
    [finding] = refusal.value.findings
    assert finding.field == "candidates.boosting.parameters"
    assert "run pip install 'vroom[lightgbm]', or choose another family" in finding.message
    assert path.read_text().splitlines()[finding.line - 1].strip() == "parameters: {num_leaves: 4}"


LOSSES = [("gamma", "above: 0", "above 0"), ("poisson", "minimum: 0", "0 or above")]


@pytest.fixture
def trips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A forecast of a column that target.sql passes on."""
    monkeypatch.setenv("VROOM_DEFS", str(tmp_path / "defs"))
    monkeypatch.setenv("VROOM_DATA", str(tmp_path / "data"))
    scaffold.write(tmp_path / "defs", "trips")
    return tmp_path / "defs" / "trips"


def with_loss(folder: Path, loss: str, declared: str) -> None:
    edit(folder / "defs.yaml", "duration: {type: number, above: 0,", f"duration: {{type: number{declared},")
    boosting = f"    boosting:\n      family: boosting\n      features: [distance]\n      parameters: {{loss: {loss}}}\n"
    path = folder / "defs.yaml"
    path.write_text(path.read_text() + boosting)


@pytest.mark.parametrize(("loss", "bound", "takes"), LOSSES)
@pytest.mark.parametrize("declared", ["", ", minimum: -1"])
def test_a_loss_that_the_declared_target_may_break_is_refused_with_what_to_declare(
    trips, loss, bound, takes, declared
):
    with_loss(trips, loss, declared)
    with pytest.raises(DeclarationError) as refusal:
        declaration.read(trips)
    (finding,) = refusal.value.findings
    assert finding.field == "candidates.boosting.parameters"
    assert finding.message.startswith(f"loss {loss} is for targets {takes}, and trips.duration may be ")
    assert f"declare `{bound}` there" in finding.message


@pytest.mark.parametrize(
    ("candidate", "field", "says"),
    [
        ("family: gamma_glm", "family", "gamma_glm is for targets above 0, and trips.duration may be ≤ 10000"),
        ("family: linear\n      transform: log", "transform", "transform log is for targets above 0"),
        ("family: tweedie_glm", "parameters", "tweedie_glm of power 1.5 is for targets 0 or above"),
        ("family: tweedie_glm\n      parameters: {power: 2}", "parameters", "tweedie_glm of power 2 is for targets above 0"),
        ("family: tweedie_glm\n      parameters: {power: 0.5}", "parameters.power", "there is no distribution of power 0.5"),
        ("family: tweedie_glm\n      parameters: {power: high}", "parameters.power", "there is no distribution of power nan"),
        ("family: gamma_glm\n      offset: distance", "offset", "gamma_glm is for targets above 0, which the rest"),
        ("family: linear\n      trend: rush_hour", "trend", "a trend is for targets 0 or above, and trips.duration may be"),
        ("family: linear\n      trend: hours", "trend", "'hours' is not a feature; features.sql has distance"),
        ("family: linear\n      trend: distance", "trend", "distance is the trend, leave it out of the candidate's features"),
        ("family: median\n      trend: rush_hour", "trend", "it is not for median; give it to a model"),
        ("family: linear\n      trend: rush_hour\n      offset: rush_hour", "trend", "it cannot be beside offset"),
        ("family: linear\n      trend: rush_hour\n      transform: log", "trend", "it cannot be beside transform"),
        ("family: median\n      transform: log", "transform", "it is not for median; use one of forest, boosting, linear"),
        (
            "family: boosting\n      transform: log\n      parameters: {loss: gamma}",
            "transform",
            "a gamma loss is not for logarithms; leave one of the two out",
        ),
    ],
)  # fmt: skip
def test_a_candidate_for_amounts_says_what_it_is_for(trips, candidate, field, says):
    edit(trips / "defs.yaml", "duration: {type: number, above: 0,", "duration: {type: number,")
    path = trips / "defs.yaml"
    path.write_text(f"{path.read_text()}    amounts:\n      {candidate}\n      features: [distance]\n")
    with pytest.raises(DeclarationError) as refusal:
        declaration.read(trips)
    assert refusal.value.findings[0].field == f"candidates.amounts.{field}"
    assert refusal.value.findings[0].message.startswith(says)


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ("bins: {started_at: 8}", "bins.started_at", "started_at is a time; name a number that features.sql makes of it, as `hour(started_at)`"),
        ("ranks: [started_at]", "ranks.0", "started_at is a time; name a number that features.sql makes of it, as `hour(started_at)`"),
        ("bins: {rush_hour: 8}", "bins.rush_hour", "rush_hour is a category, which has columns of its own already; leave it out here"),
        ("ranks: [distance, rush_hour]", "ranks.1", "rush_hour is a category, which has columns of its own already; leave it out here"),
    ],
)  # fmt: skip
def test_only_a_number_enters_as_bins_or_its_rank(trips, given, field, says):
    path = trips / "defs.yaml"
    edit(path, "inputs: [distance, rush_hour]", "inputs: [distance, rush_hour, started_at]")
    edit(path, "rush_hour: {type: integer, minimum: 0, maximum: 1,", "rush_hour: {type: category,")
    steps = f"    steps:\n      family: linear\n      features: [distance, rush_hour]\n      {given}\n"
    path.write_text(path.read_text() + steps)
    with pytest.raises(DeclarationError) as refusal:
        declaration.read(trips)
    [finding] = refusal.value.findings
    assert (finding.field, finding.message) == (f"candidates.steps.{field}", says)
    assert given in path.read_text().splitlines()[finding.line - 1]


@pytest.mark.parametrize(
    ("loss", "declared"),
    [
        ("gamma", ", above: 0"),
        ("gamma", ", minimum: 0.1"),
        ("poisson", ", minimum: 0"),
        ("poisson", ", above: 0"),
    ],
)
def test_a_loss_that_fits_the_declared_target_is_accepted(trips, loss, declared):
    with_loss(trips, loss, declared)
    assert "boosting" in declaration.read(trips).candidates


@pytest.mark.parametrize(
    "statement",
    ["select trip_id, 2 * duration as duration from trips", "select * from trips where duration > 0"],
)
def test_a_target_that_is_computed_is_left_to_the_data(trips, statement):
    with_loss(trips, "gamma", "")
    (trips / "target.sql").write_text(statement)
    assert "boosting" in declaration.read(trips).candidates


@pytest.mark.parametrize("name", OPTIONS)
def test_an_input_has_no_name_that_a_request_has_already(forecasts, name):
    """The service would refuse such a champion."""
    path = forecasts / "reservations" / "defs.yaml"
    edit(path, "        technology: {", f"        {name}: {{")
    edit(path, "inputs: [technology,", f"inputs: [{name},")
    with pytest.raises(DeclarationError) as refusal:
        declaration.read(path.parent)
    message = str(refusal.value)
    assert f"inputs: {name} is a field of every request" in message
    assert "give the column another name" in message


def test_all_that_is_wrong_with_the_fields_is_said_at_once(forecasts):
    path = forecasts / "reservations" / "defs.yaml"
    edit(path, "kind: count", "kind: counts")
    edit(path, "  owner: team:marketplace\n", "")
    edit(path, "minimum: 1, unique", "minimum: one, unique")
    with pytest.raises(DeclarationError) as refusal:
        declaration.read(path.parent)
    fields = [finding.field for finding in refusal.value.findings]
    assert fields == ["owner", "sources.vehicles.columns.vehicle_id.minimum", "target.kind"]
    assert len(str(refusal.value).splitlines()) == 3


def test_all_that_the_fields_say_against_each_other_is_said_at_once(forecasts):
    path = forecasts / "reservations" / "defs.yaml"
    edit(path, "team:marketplace", "marketplace")
    edit(path, "references: vehicles.vehicle_id", "references: vehicles.id")
    edit(path, "inputs: [technology,", "inputs: [color,")
    edit(path, "members: [broad_forest, glm]", "members: [broad, glm]")
    with pytest.raises(DeclarationError) as refusal:
        declaration.read(path.parent)
    assert [finding.field for finding in refusal.value.findings] == [
        "owner",
        "sources.reservations.columns.vehicle_id.references",
        "inputs",
        "candidates.forest_and_glm.members",
    ]


def test_a_missing_statement_is_said_where_it_is_asked_for(forecasts):
    (forecasts / "upcoming_reservations" / "histories.sql").unlink()
    (forecasts / "upcoming_reservations" / "target.sql").unlink()
    with pytest.raises(DeclarationError) as refusal:
        declaration.read(forecasts / "upcoming_reservations")
    assert [(one.field, one.message) for one in refusal.value.findings] == [
        ("examples.histories", "there is no histories.sql; write it beside defs.yaml"),
        ("target", "there is no target.sql; write it beside defs.yaml"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "the file is not there"),
        (b"", "it should hold one forecast"),
        (b"- a\n- b\n", "it should hold one forecast"),
        (b"type: a\n---\ntype: b\n", "it should hold one forecast"),
        (b"type: \xff\n", "it is not UTF-8"),
        (b"type: \x00\n", "it is not valid YAML"),
    ],
)
def test_a_file_that_is_no_declaration_is_refused(forecasts, content, says):
    path = forecasts / "reservations" / "defs.yaml"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(DeclarationError, match=says) as refusal:
        declaration.read(path.parent)
    assert str(refusal.value).startswith(f"{path}:1: ")


BREAKS = [
    ("defs.yaml", ("kind: count", "kind: counts")),
    ("defs.yaml", ("attributes:", "attributes: [")),
    ("defs.yaml", ("name: reservations\n  title", "name: lap_times\n  title")),  # whose name is taken
    ("target.sql", ("count(", "cnt(")),
]


@pytest.mark.parametrize(("file", "change"), BREAKS)
def test_a_broken_declaration_is_shown_and_the_others_load(forecasts, caplog, file, change):
    edit(forecasts / "reservations" / file, *change)
    loaded = defs()
    assert isinstance(loaded, dg.Definitions)
    dg.Definitions.validate_loadable(loaded)
    assert "The forecast reservations is left out, its declaration is broken" in caplog.text
    displayed = {asset.key.path[0]: asset for asset in loaded.resolve_all_asset_specs()}
    assert set(displayed) == {"reservations", "upcoming_reservations", "lap_times", "market_resolution"}
    mine = [asset for asset in loaded.resolve_all_asset_specs() if asset.key.path[0] == "reservations"]
    assert [asset.key.path for asset in mine] == [["reservations", "declaration"]]
    assert f"reservations/{file}:" in (mine[0].description or "")
    jobs = {job.name for job in loaded.resolve_all_job_defs()}
    assert "lap_times_retrain" in jobs
    assert "reservations_retrain" not in jobs


def test_a_broken_declaration_becomes_a_failed_check_by_itself(forecasts, home):
    edit(forecasts / "reservations" / "defs.yaml", "kind: count", "kind: counts")
    loaded = defs()
    assert isinstance(loaded, dg.Definitions)
    sensor = loaded.resolve_sensor_def("reservations_declaration")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    with dg.DagsterInstance.ephemeral() as instance:
        first = sensor(dg.build_sensor_context(instance=instance))
        assert isinstance(first, dg.SensorResult)
        (event,) = first.asset_events
        assert isinstance(event, dg.AssetCheckEvaluation)
        assert not event.passed
        assert event.asset_key == dg.AssetKey(["reservations", "declaration"])
        assert "target.kind: it should be" in (event.description or "")
        again = sensor(dg.build_sensor_context(instance=instance, cursor=first.cursor))
        assert isinstance(again, dg.SkipReason)
        asset = loaded.resolve_assets_def(dg.AssetKey(["reservations", "declaration"]))
        result = dg.materialize([asset], instance=instance, raise_on_error=False)
        assert not result.success
        assert not result.get_asset_check_evaluations()[0].passed


def test_a_repaired_declaration_is_a_forecast_again(forecasts):
    path = forecasts / "reservations" / "defs.yaml"
    sound = path.read_text()
    edit(path, "kind: count", "kind: counts")
    broken = defs()
    path.write_text(sound)
    repaired = defs()
    assert isinstance(broken, dg.Definitions)
    assert isinstance(repaired, dg.Definitions)
    keys = [{asset.key for asset in one.resolve_all_asset_specs()} for one in (broken, repaired)]
    champion = dg.AssetKey(["reservations", "champion"])
    assert [champion in one for one in keys] == [False, True]


def test_check_says_which_declarations_are_sound_and_which_are_not(forecasts, monkeypatch, capsys):
    edit(forecasts / "reservations" / "defs.yaml", "kind: count", "kind: counts")
    edit(forecasts / "lap_times" / "defs.yaml", "alpha: 10.0", "alpha: -10.0")
    monkeypatch.setattr(sys, "argv", ["vroom_assets", "check"])
    assert __main__.main() == 1
    printed = capsys.readouterr().out
    assert "upcoming_reservations: ok" in printed
    assert "reservations: broken\n" in printed
    assert f"{forecasts}/reservations/defs.yaml:" in printed
    assert "candidates.linear.parameters: candidate linear (linear): The 'alpha' parameter" in printed
    assert "market_resolution: ok" in printed


def test_check_says_that_a_declaration_is_not_there(forecasts, capsys):
    assert __main__.check(["market_resolution", "nothing"]) == 1
    printed = capsys.readouterr().out
    assert "market_resolution: ok" in printed
    assert "the file is not there" in printed


def test_the_committed_schema_is_that_of_the_models_and_of_the_command():
    committed = json.loads(declaration.SCHEMA.read_text())
    remedy = "write it again: python -m vroom_assets schema > docs/forecast.schema.json"
    assert committed == declaration.schema(), remedy
    done = subprocess.run(
        [sys.executable, "-m", "vroom_assets", "schema"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == committed


@pytest.mark.parametrize("folder", sorted(path.parent for path in SHIPPED.glob("*/defs.yaml")), ids=str)
def test_what_is_shipped_is_sound_and_names_its_schema(folder):
    text = (folder / "defs.yaml").read_text()
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named
    assert (folder / named[1]).resolve() == declaration.SCHEMA
    schema = json.loads(declaration.SCHEMA.read_text())
    assert [error.message for error in jsonschema_rs.iter_errors(schema, yaml.safe_load(text))] == []
    assert declaration.read(folder).name == folder.name


def test_the_schema_refuses_what_the_models_refuse():
    schema = json.loads(declaration.SCHEMA.read_text())
    sound = yaml.safe_load((SHIPPED / "reservations" / "defs.yaml").read_text())
    sound["attributes"]["target"]["kind"] = "counts"
    assert not jsonschema_rs.is_valid(schema, sound)


def models() -> list[type[BaseModel]]:
    return [DeclarationFile] + [
        one
        for one in vars(spec).values()
        if isinstance(one, type) and issubclass(one, spec.Declared) and one is not spec.Declared
    ]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_word_of_the_language_is_in_the_document(model):
    text = DOCUMENT.read_text()
    fields = set(model.model_fields) - set(declaration.FROM_FILES)
    assert {field for field in fields if f"`{field}`" not in text} == set()


def test_every_family_kind_and_period_is_in_the_document():
    text = DOCUMENT.read_text()
    words = [*spec.Family, *spec.Kind, *spec.Period, *spec.ColumnType, *spec.Curve, *spec.Expired]
    assert {word.value for word in words if f"`{word.value}`" not in text} == set()
