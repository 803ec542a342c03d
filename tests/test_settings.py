"""docs/settings.md lists every environment variable as the code reads it, and no other."""

import ast
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.project import ROOT
from vroom_api.contract import environment
from vroom_api.contract.environment import PORTS, Environment
from vroom_api.settings import Settings
from vroom_assets import settings

MODULES = {
    "both": ROOT / "vroom_api" / "contract" / "environment.py",
    "service": ROOT / "vroom_api" / "settings.py",
    "training": ROOT / "vroom_assets" / "settings.py",
}
DEPENDENT = {"VROOM_AUTH": "`off` on loopback, else `on`"}  # defaults that are more than a value


class Row(NamedTuple):
    default: str
    reader: str


def table() -> dict[str, Row]:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (.+?) \| .+ \| (.+?) \|$", text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\|", text, re.MULTILINE)) - 2
    assert len({name for name, *_ in rows}) == len(rows)
    return {name: Row(default, reader) for name, default, reader in rows}


def named(path: Path) -> set[str]:
    """The variables that a module names."""
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[A-Z][A-Z0-9_]{4,}", node.value)
    }


def test_every_variable_is_listed_with_who_reads_it() -> None:
    shared, service, training = (named(path) for path in MODULES.values())
    pages = {"VROOM_DAGSTER_PORT", "VROOM_MLFLOW_PORT"}  # named beside the service's port, which both read
    both = (shared | service & training) - pages
    rows = table()
    readers = {reader: {name for name, row in rows.items() if row.reader == reader} for reader in MODULES}
    set_for_others = {name for name, row in rows.items() if row.default.startswith("set: ")}
    assert readers["both"] == both
    assert readers["service"] == service - both
    assert readers["training"] | set_for_others == (training | pages) - both


def test_what_others_read_stands_somewhere_in_the_project() -> None:
    """Their own names are not checked, only that the project has something to do with them."""
    files = [
        *(path for part in ("vroom_api", "vroom_assets", "tests") for path in (ROOT / part).rglob("*.py")),
        *(ROOT / name for name in ("docker-compose.yml", "data/README.md", "Makefile")),
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files if path != Path(__file__))
    others = {name for name, row in table().items() if row.reader not in MODULES}
    assert {name for name in others if name not in text} == set()


def test_no_variable_is_named_elsewhere_that_is_not_listed() -> None:
    files = [
        *(path for part in ("vroom_api", "vroom_assets") for path in (ROOT / part).rglob("*.py")),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / name for name in ("README.md", "data/README.md", "Makefile", "docker-compose.yml")),
    ]
    found = {name for path in files for name in re.findall(r"\bVROOM_[A-Z0-9_]*[A-Z0-9]\b", path.read_text())}
    compose = (ROOT / "docker-compose.yml").read_text()
    found |= set(re.findall(r"(?<!\$)\$\{(\w+)", compose)) | set(
        re.findall(r"^ +([A-Z_]{5,}):", compose, re.MULTILINE)
    )
    assert found - set(table()) == {"POSTGRES_USER"}  # of the image, and given there


def test_the_defaults_are_those_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[str, str] = {}

    def recorded(self: Environment, name: str, default: str) -> str:
        read[name] = default
        return str(tmp_path) if name == "VROOM_HOME" else default

    monkeypatch.setattr(Environment, "text", recorded)
    Settings.read({})
    for module in (environment, settings):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            required = [
                one for one in inspect.signature(function).parameters.values() if one.default is one.empty
            ]
            if function.__module__ == module.__name__ and not required and not name.startswith("_"):
                function()
    for name in PORTS:
        Environment().port(name)
    rows = table()
    assert set(read) == {name for name, row in rows.items() if row.reader in MODULES}
    for name, default in read.items():
        value = default.removeprefix(f"{ROOT}/").replace(str(tmp_path), "/$VROOM_HOME").replace("//$", "/$")
        value = re.sub(r"^/\$|(?<=:/)/\$", "$", value).removesuffix(".0")
        assert rows[name].default == DEPENDENT.get(name, f"`{value}`" if value else "none"), name


def test_what_is_set_for_others_is_what_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}
    monkeypatch.setattr(settings, "hand_down", given.update)
    settings.hand_down_home(tmp_path)
    listed = {
        name: row.default.removeprefix("set: ").strip("`").replace("$VROOM_HOME", str(tmp_path))
        for name, row in table().items()
        if row.default.startswith("set: ")
    }
    assert {name: given[name] for name in given if name not in ("VROOM_HOME", "VROOM_LOG_FORMAT")} == listed
