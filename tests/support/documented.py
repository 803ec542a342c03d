"""What the OpenAPI document says can be asked, and a service of which all of that is true."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.service import Serve, bearer
from vroom_api.contract.alerts import Severity, raise_alert
from vroom_api.contract.tables import open_database
from vroom_api.security.keys import Role, create_key


@dataclass(frozen=True)
class Lively:
    """A service with keys and a record, in which something was predicted, is wrong, and a key may be revoked."""

    client: TestClient[Any]
    key: str
    prediction: str
    alert: int
    spare_key: str = "shop"

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.key)

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/schema/openapi.json", headers=self.headers).json()
        return found


def lively(state: Path, serve: Serve) -> Lively:
    publish(state, 1)
    engine = open_database(f"sqlite:///{state / 'serving.db'}")
    try:
        raise_alert(engine, forecast=FORECAST, kind="drift", severity=Severity.WARNING, message="moved")
        key = create_key(engine, "tests", Role.ADMIN)
        create_key(engine, Lively.spare_key, Role.VIEWER)
    finally:
        engine.dispose()
    client = serve(record=True, auth=True)
    prediction = client.post("/predict", json=EXAMPLE, headers=bearer(key)).json()["prediction_id"]
    alert = client.get("/alerts", headers=bearer(key)).json()["alerts"][0]["id"]
    return Lively(client, key, prediction, alert)


@dataclass(frozen=True)
class Documented:
    """One operation of the document."""

    identifier: str
    method: str
    path: str
    operation: dict[str, Any]
    schemas: dict[str, Any]

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = (
            self.schemas[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
        )
        return found

    def example_of(self, content: dict[str, Any]) -> Any:
        """The example of a body; None where there is none."""
        if "example" in content:
            return content["example"]
        schema = content.get("schema", {})
        examples = self.resolved(schema.get("items", schema)).get("examples", [])
        if not examples:
            return None
        return [examples[0]] if "items" in schema else examples[0]

    def parameters(self) -> dict[str, Any]:
        """An example of each parameter that is required; None where there is none."""
        found = {}
        for parameter in self.operation.get("parameters", []):
            if parameter.get("required"):
                schema = parameter["schema"]
                values = schema.get("examples") or schema.get("enum") or [parameter.get("example")]
                found[parameter["name"]] = values[0]
        return found

    def body(self) -> Any:
        content = self.operation.get("requestBody", {}).get("content", {})
        return self.example_of(content["application/json"]) if content else None

    def answers(self) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        """Of an answer of each type: the type, its example and its schema."""
        for status, response in self.operation["responses"].items():
            for kind, content in response.get("content", {}).items():
                if status < "300" and kind != "application/octet-stream":
                    yield kind, self.example_of(content), content.get("schema", {})

    def ask(self, service: Lively, **instead: Any) -> httpx.Response:
        """Ask for the example, with other values of some parameters."""
        values = self.parameters() | {
            name: value for name, value in instead.items() if name in self.parameters()
        }
        path = re.sub(r"{(\w+)}", lambda found: quote(str(values.pop(found[1])), safe=""), self.path)
        return service.client.request(
            self.method, path, params=values, json=self.body(), headers=service.headers
        )


def documented(document: dict[str, Any]) -> list[Documented]:
    return [
        Documented(
            operation["operationId"], method.upper(), path, operation, document["components"]["schemas"]
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
