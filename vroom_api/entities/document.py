"""Stored entities in the OpenAPI document: what a forecast takes of one its champion knows."""

import copy
import sqlite3
from typing import Any, Final

from vroom_api.champion.loading import Champion
from vroom_api.champion.stored_inputs import Entities, LayeredInputs, NotReadable
from vroom_api.contract.saved_entities import CSV
from vroom_api.entities.predicting import OPTIONS
from vroom_api.entities.saving import ID, RESERVED, key_of
from vroom_api.record.prediction import MAX_TEXT_LENGTH

Schema = dict[str, Any]

SHORT: Final = "/vehicles"
EXAMPLE_ID: Final = "example"  # of the entity that the examples save, replace and delete
_NAMES: Final = {
    "vehicles": "entities",
    "saveVehicle": "saveEntity",
    "features": "features",
    "vehicle": "entity",
    "replaceVehicle": "replaceEntity",
    "deleteVehicle": "deleteEntity",
    "featuresOfVehicle": "featuresOfEntity",
}  # of the operations of one forecast, by those of the short routes


def known_id(champion: Champion | None) -> str | None:
    """The id of an entity of the sources that may stand in an example; None where none is known."""
    inputs = champion.entities if champion is not None else None
    file = inputs.file if isinstance(inputs, LayeredInputs) else inputs
    if not isinstance(file, Entities):
        return None
    try:
        with file.opened() as connection:
            if connection is None:
                return None
            columns = [row[1] for row in connection.execute("pragma table_info(entity)")]
            where = f"source = '{CSV}' and" if "source" in columns else ""
            row = connection.execute(
                f"select id from entity where {where} id not like '%/%' order by id limit 1"
            ).fetchone()
    except (NotReadable, sqlite3.Error):
        return None
    return None if row is None else str(row[0])


def schemas_of(champion: Champion, request: Schema, prefix: str, known: str | None) -> Schema:
    """The schemas of an entity that is saved, and of a prediction by an id.

    Args:
        request: the schema of a request for a prediction, which has the same inputs.
        known: an id for examples.
    """
    manifest = champion.manifest
    key = key_of(manifest)
    properties = request["properties"]
    inputs = {field.name: properties[field.name] for field in manifest.inputs}
    text = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH}
    number = {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}
    new = text | {"pattern": r"^[^\x00-\x1f\x7f/]+$(?!\n)", "not": {"enum": list(RESERVED)}}
    stored = text | {"pattern": r"^[^\x00-\x1f\x7f]+$(?!\n)"}

    def ids(given: Schema, description: str) -> Schema:
        names = (key, ID) if key != ID else (ID,)
        return {name: {"description": description, "anyOf": [number, given]} for name in names}

    needed = [field.name for field in manifest.inputs if not field.nullable]
    body = {
        "type": "object",
        "title": f"{prefix}Entity",
        "description": f"One {manifest.entity} to save: its inputs, and maybe an id.",
        "properties": ids(new, "its id; a new one is made where none is sent")
        | inputs
        | {"tags": properties["tags"]},
        "required": needed,
        "additionalProperties": False,
        "examples": [{key: EXAMPLE_ID} | manifest.example],
    }
    by_id = {
        "type": "object",
        "title": f"{prefix}EntityId",
        "description": f"One {manifest.entity} by the id under which its inputs are stored.",
        "properties": ids(stored, "its id") | {name: properties[name] for name in OPTIONS},
        "additionalProperties": False,
        "examples": [] if known is None else [{key: known}],
    }
    return {
        f"{prefix}Entity": _with_one_id(body, key, needed=False),
        f"{prefix}EntityId": _with_one_id(by_id, key, needed=True),
    }


def unknown(prefix: str) -> Schema:
    """What stands for these schemas without a champion."""
    plain = {"type": "object", "description": "The names of its fields are known once a champion serves."}
    return {f"{prefix}{name}": plain | {"title": f"{prefix}{name}"} for name in ("Entity", "EntityId")}


def add_operations(merged: Schema, path: str, tag: str, prefix: str, known: str | None) -> None:
    """The operations on stored entities of one forecast, as those of the flagship were generated.

    Args:
        path: of the forecast; empty for the short routes.
        prefix: of its schemas.
        known: an id for examples.
    """
    body = {"$ref": f"#/components/schemas/{prefix}Entity"}
    request = {"required": True, "content": {"application/json": {"schema": body}}}
    for short in [name for name in merged["paths"] if name == SHORT or name.startswith(f"{SHORT}/")]:
        if not path:
            operations = merged["paths"][short]
        elif {operation["operationId"] for operation in merged["paths"][short].values()} <= _NAMES.keys():
            operations = copy.deepcopy(merged["paths"][short])
            merged["paths"][f"{path}/entities{short.removeprefix(SHORT)}"] = operations
        else:
            continue
        for method, operation in operations.items():
            if path:
                operation["operationId"] = (
                    f"{prefix[0].lower()}{prefix[1:]}_{_NAMES[operation['operationId']]}"
                )
                operation["tags"] = [tag]
            if method in ("post", "put"):
                operation["requestBody"] = request
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "identifier":
                    examples = [EXAMPLE_ID] if method in ("put", "delete") else [known]
                    parameter["schema"]["examples"] = [one for one in examples if one is not None]


def _with_one_id(schema: Schema, key: str, *, needed: bool) -> Schema:
    """Of the two names of an id one may be sent, or has to."""
    if key == ID:
        return schema | ({"required": [ID]} if needed else {})
    if needed:
        return schema | {"oneOf": [{"required": [key]}, {"required": [ID]}]}
    return schema | {"not": {"required": [key, ID]}}
