"""Every refusal leads to a page about its cause, and every cause that the code can raise has one."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.project import ROOT
from vroom_api.causes import CAUSES
from vroom_api.problems import Problem

HTML = {"accept": "text/html,application/xhtml+xml"}
# What Litestar refuses by itself; the causes of its other statuses are `refused`.
FRAMEWORK = {("bad-request", 400), ("not-found", 404), ("method-not-allowed", 405), ("too-large", 413)}
KINDS = {kind.__name__ for kind in Problem.__subclasses__()}


def raised() -> Iterator[tuple[str, int]]:
    """Cause and status of every problem in the source, also where a function is given the cause."""
    for path in sorted((ROOT / "vroom_api").rglob("*.py")):
        tree = ast.parse(path.read_text())
        given = dict(functions_with_a_cause(tree))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).removeprefix("self.")
            name = "Problem" if name in KINDS else name
            match name, node.args:
                case "Problem", [ast.Constant(value=int(status)), ast.Constant(value=str(cause)), *_]:
                    yield cause, status
                case "Problem", [ast.Constant(), ast.Name(id="cause"), *_]:
                    assert given, f"{path}:{node.lineno}: a computed cause"
                case "Problem", _:
                    assert path.name in ("causes.py", "problems.py"), (
                        f"{path}:{node.lineno}: a computed cause"
                    )
                case _ if name in given:
                    position, status = given[name]
                    yield ast.literal_eval(node.args[position]), status
    yield from FRAMEWORK


def functions_with_a_cause(tree: ast.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Functions that make a problem of a cause they are given: its position among their arguments, and the status."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [one.arg for one in node.args.args if one.arg != "self"]
            for inner in ast.walk(node):
                match inner:
                    case ast.Call(
                        func=ast.Name(id="Problem"),
                        args=[ast.Constant(value=int(status)), ast.Name(id="cause"), *_],
                    ):
                        yield node.name, (names.index("cause"), status)


def test_every_cause_in_the_source_has_a_page_with_its_statuses() -> None:
    statuses = defaultdict(set)
    for cause, status in raised():
        statuses[cause].add(status)
    explained = {name: set(cause.statuses) for name, cause in CAUSES.items() if name != "refused"}
    assert explained == statuses
    for name, cause in CAUSES.items():
        assert cause.type == cause.example["type"] == f"urn:vroom:{name}"
        assert cause.example["help"] == f"/problems/{name}"
        assert cause.meaning.endswith(".")
        assert cause.remedy.endswith(".")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/predict", "{"),
        ("POST", "/predict", "{}"),
        ("GET", "/predict", None),
        ("GET", "/nothing", None),
        ("GET", "/ledger?limit=0", None),
        ("GET", "/ledger?limits=1", None),
        ("GET", "/forecasts/none", None),
        ("GET", "/problems/none", None),
        ("POST", "/v2/models/reservations/infer", "{}"),
    ],
)
def test_a_refusal_leads_to_its_page(
    client: TestClient[Any], method: str, path: str, body: str | None
) -> None:
    refused = client.request(method, path, content=body).json()
    page = client.get(refused["help"])
    assert page.status_code == 200
    assert page.headers["content-type"] == "application/json"
    assert page.json()["type"] == refused["type"]
    assert refused["status"] in page.json()["statuses"]
    assert client.get(f"/problems/{refused['type']}").json() == page.json()


def test_people_get_a_page_and_programs_json(client: TestClient[Any]) -> None:
    page = client.get("/problems/invalid-input", headers=HTML)
    assert page.headers["content-type"].startswith("text/html")
    assert "422 Unprocessable Content" in page.text
    assert "urn:vroom:invalid-input" in page.text
    listed = client.get("/problems", headers=HTML).text
    assert all(f'href="/problems/{name}"' in listed for name in CAUSES)
    assert [cause["type"] for cause in client.get("/problems").json()] == [
        f"urn:vroom:{name}" for name in sorted(CAUSES)
    ]
    assert 'href="/problems"' in client.get("/schema").text


def test_a_cause_that_there_is_not_is_refused_with_the_nearest(client: TestClient[Any]) -> None:
    answer = client.get("/problems/invalid-imput")
    assert answer.status_code == 404
    assert "did you mean invalid-input?" in answer.json()["detail"]
