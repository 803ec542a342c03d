"""A declaration is read once, by whoever loads it, into the class that it names."""

import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from vroom_assets import declaration
from vroom_assets.declaration import document, scaffold
from vroom_assets.definitions import defs
from vroom_assets.forecast import Forecast, loading

OWN = """
import dagster as dg

from vroom_assets.forecast import Forecast


class Own(Forecast):
    pager: str

    def feature_assets(self):
        @dg.asset(key=[self.name, "busy"], deps=[[self.name, "features"]], description="How many rows.")
        def busy(warehouse: dg.ResourceParam[object]):
            with warehouse.connect(self.name) as connection:
                rows = connection.execute("select count(*) from features").fetchone()[0]
            return dg.MaterializeResult(metadata={"rows": rows, "pager": self.pager})

        return [*super().feature_assets(), busy]

    def champion_assets(self):
        return [
            asset.map_asset_specs(lambda spec: spec.merge_attributes(tags={"tier": "1"}, kinds={"python"}))
            for asset in super().champion_assets()
        ]
"""


@pytest.fixture
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small forecast with its data."""
    monkeypatch.setenv("VROOM_DEFS", str(tmp_path / "defs"))
    monkeypatch.setenv("VROOM_DATA", str(tmp_path / "data"))
    scaffold.write(tmp_path / "defs", "deliveries")
    return tmp_path / "defs" / "deliveries"


@pytest.fixture
def own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as a forecast of a class made from Forecast in a module of somebody's own."""
    (folder.parents[1] / "own_forecasts.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder.parents[1])
    monkeypatch.delitem(sys.modules, "own_forecasts", raising=False)
    edit(folder, document.FORECAST, "own_forecasts.Own")
    edit(folder, "attributes:\n", "attributes:\n  pager: '555'\n")
    return folder


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / declaration.FILE
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def loaded() -> dg.Definitions:
    found = defs()
    assert isinstance(found, dg.Definitions)
    return found


def spec_of(name: str) -> dg.AssetSpec:
    return next(spec for spec in loaded().resolve_all_asset_specs() if spec.key.path == ["deliveries", name])


def test_a_declaration_is_read_once(folder, monkeypatch):
    readings = count(monkeypatch, declaration, "read")
    assert spec_of("champion").owners
    assert readings == [folder]


def count(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list:
    """What a function is called with from now on."""
    calls, real = [], getattr(module, name)

    def counted(argument: object) -> object:
        calls.append(argument)
        return real(argument)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_dagsters_own_tree_loads_what_the_code_location_loads(folder):
    tree = loading.component_tree(folder)
    (component,) = tree.get_all_components(Forecast)
    assert component == declaration.read(folder)
    assert component.features_sql == (folder / "features.sql").read_text()
    keys = {key for asset in tree.build_defs().assets or [] for key in asset.keys}
    assert keys == {
        spec.key for spec in loaded().resolve_all_asset_specs() if spec.key.path[0] == "deliveries"
    }


def test_a_number_in_quotes_stays_a_text_on_its_way_through_dagster(folder, caplog, capfd):
    edit(folder, "Duration of a trip", "'2024'")
    edit(
        folder,
        "distance: {type",
        "lane: {type: text, nullable: true, values: ['120', '1e3', 'true']}\n        distance: {type",
    )
    edit(folder, "      columns:", "      format: {nulls: ['-999', '0']}\n      columns:")
    (component,) = loading.component_tree(folder).get_all_components(Forecast)
    trips = component.sources["trips"]
    assert (component.title, trips.columns["lane"].values, trips.format.nulls) == (
        *("2024", ["120", "1e3", "true"], ["-999", "0"]),
    )
    assert spec_of("champion").owners
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_a_number_in_quotes_among_parameters_is_said_in_one_line(folder, caplog, capfd):
    edit(folder, "family: linear\n", "family: linear\n      parameters: {alpha: '1'}\n")
    assert spec_of("declaration").description
    assert "parameters.alpha: '1' is a text; write 1, without quotes" in caplog.text
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_dagsters_own_tree_says_what_is_wrong_in_our_words(folder):
    edit(folder, "kind: regression", "kind: regresion")
    with pytest.raises(Exception, match="Error while loading component") as raised:
        loading.component_tree(folder).build_defs()
    assert "target.kind: it should be" in str(raised.value.__cause__)


def test_dagsters_tools_see_the_schema_of_the_attributes():
    schema = Forecast.get_model_cls().model_json_schema()
    assert set(Forecast.model_fields) == set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_what_dagster_changes_after_the_load_is_kept(folder):
    text = "post_processing:\n  assets:\n    - target: '*'\n      attributes: {tags: {tier: '2'}}\n"
    edit(folder, "attributes:\n", f"{text}attributes:\n")
    assert spec_of("champion").tags["tier"] == "2"


def test_a_class_of_ones_own_is_loaded_with_its_attributes_and_what_it_overrides(own):
    champion, busy = spec_of("champion"), spec_of("busy")
    assert champion.tags["tier"] == "1"
    assert champion.kinds == {"python", "onnx", "mlflow"}
    assert (busy.group_name, busy.owners) == ("deliveries", champion.owners)
    assert declaration.read(own).pager == "555"


def test_an_asset_of_ones_own_is_made_with_the_others_of_its_stage(own, instance):
    result = loaded().resolve_job_def("deliveries_materialize").execute_in_process(instance=instance)
    (made,) = result.asset_materializations_for_node("deliveries__busy")
    assert {name: entry.value for name, entry in made.metadata.items()} == {"rows": 300, "pager": "555"}


NO_CLASSES: list[tuple[str, Callable[[Path], None], str]] = [
    ("a class of another kind", lambda folder: edit(folder, document.FORECAST, "dagster.DefsFolderComponent"), "type: it should be 'vroom_assets.forecast.Forecast', or a class made from it, which"),
    ("a module that is not there", lambda folder: edit(folder, document.FORECAST, "nowhere.Forecast"), "No module named 'nowhere'"),
    ("no module", lambda folder: edit(folder, document.FORECAST, "Forecast"), "type: it should be"),
    ("no declaration", lambda folder: (folder / declaration.FILE).unlink(), "the file is not there"),
    ("an attribute of another class", lambda folder: edit(folder, "attributes:\n", "attributes:\n  pager: '555'\n"), "pager: there is no such field"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "breaks", "says"), NO_CLASSES, ids=[name for name, *_ in NO_CLASSES])
def test_what_is_no_forecast_is_shown_as_refused(folder, name, breaks, says):
    breaks(folder)
    specs = [spec for spec in loaded().resolve_all_asset_specs() if spec.key.path[0] == "deliveries"]
    assert [spec.key.path for spec in specs] == [["deliveries", "declaration"]]
    assert says in (specs[0].description or "")


def test_an_error_of_ones_own_class_is_shown_too(own):
    module = own.parents[1] / "own_forecasts.py"
    module.write_text(OWN.replace("[*super().feature_assets(), busy]", "1 / 0"))
    assert "division by zero" in (spec_of("declaration").description or "")
