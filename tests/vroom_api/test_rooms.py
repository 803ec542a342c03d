"""Which room may know what."""

import ast
from pathlib import Path

import pytest

import vroom_api

ROOT = Path(vroom_api.__file__).parent
WITHOUT_HTTP = ("contract", "champion", "explanation", "predictions", "record")


@pytest.mark.parametrize("room", WITHOUT_HTTP)
def test_http_stays_in_the_routes(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    imported = {
        f"{path.name}: {name}" for path in files for name in modules(path) if name.startswith("litestar")
    }
    assert imported == set()


def modules(path: Path) -> set[str]:
    """The modules that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found
