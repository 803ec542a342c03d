"""defs.yaml with the line of every field."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster_shared.yaml_utils import parse_yamls_with_source_position
from dagster_shared.yaml_utils.source_position import SourcePositionTree, ValueAndSourcePositionTree
from pydantic import Field, ValidationError, create_model, field_validator

from vroom_api.contract import durable
from vroom_assets.declaration.completion import completed
from vroom_assets.declaration.findings import DeclarationError, Finding, _refuse
from vroom_assets.spec import Declared, ForecastSpec

FILE = "defs.yaml"
FROM_FILES = ("features_sql", "target_sql", "examples_sql")
FORECAST = "vroom_assets.forecast.Forecast"
Key = str | int


class DeclarationFile(Declared):
    """A forecast, declared: what stands in defs.yaml."""

    type: str = Field(
        description=f"`{FORECAST}`, or a class made from it",
        json_schema_extra={"examples": [FORECAST], "pattern": r"^\w+(\.\w+)+$"},
    )
    attributes: ForecastSpec
    post_processing: dict[str, Any] | None = Field(
        None, description="changes to the assets made from this, by Dagster's own rules"
    )

    @field_validator("type")
    @classmethod
    def _a_forecast(cls, value: str) -> str:
        component_class(value)
        return value


def component_class(name: str) -> type[ForecastSpec]:
    """The class that `type` names: Forecast, or one made from it.

    Raises:
        ValueError: it does not name such a class.
    """
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # a module of somebody's own may raise what it likes
        raise ValueError(f"it should be '{FORECAST}', or a class made from it; {name!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, ForecastSpec) and issubclass(found, dg.Component)):
        raise ValueError(f"it should be '{FORECAST}', or a class made from it, which {name!r} is not")
    return found


@cache
def _file_of(kind: type[ForecastSpec]) -> type[DeclarationFile]:
    """The file whose attributes are those of a class."""
    return create_model("DeclarationFile", __base__=DeclarationFile, attributes=(kind, ...))


# That of libyaml takes a tenth of the time, and is not in every build of PyYAML.
LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Document:
    """defs.yaml with the line of every field."""

    def __init__(self, path: Path):
        self.path = path
        self._parsed = self._parse()
        try:
            self._model = _file_of(component_class(str(self._parsed.value.get("type"))))
        except ValueError:
            self._model = DeclarationFile  # whose validation says it

    def spec(self) -> ForecastSpec:
        written = self._parsed.value
        if isinstance(attributes := written.get("attributes"), dict):
            full, unlike = completed(attributes)
            _refuse(self.finding(f"attributes.{one.field}", one.message) for one in unlike)
            written = {**written, "attributes": full}
        try:
            spec = self._model.model_validate(written).attributes
        except ValidationError as error:
            _refuse(self._invalid(one) for one in error.errors())
            raise
        given = self._parsed.value["attributes"]
        _refuse(
            self.finding(f"attributes.{name}", "it is read from the .sql file beside this one; leave it out")
            for name in FROM_FILES
            if name in given
        )
        return spec

    def finding(self, field: str | Sequence[Key], message: str) -> Finding:
        """What is wrong with a field, at its line, or at that of what should have held it."""
        path = field.split(".") if isinstance(field, str) else list(field)
        tree, value = self._parsed.source_position_tree, self._parsed.value
        for key in path:
            step = int(key) if isinstance(value, list) and str(key).isdigit() else key
            if step not in tree.children:
                break
            tree, value = tree.children[step], value[step]
        else:
            tree = _child_that_begins(message, tree, value)
        displayed = path[1:] if path[:1] == ["attributes"] and len(path) > 1 else path
        return Finding(self.path, tree.position.start.line, ".".join(map(str, displayed)), message)

    def _invalid(self, error: Any) -> Finding:
        """A finding of pydantic, or of a validator of ours that begins its message with a field."""
        path = list(error["loc"])
        if path and path[-1] == "[key]":
            path = path[:-2]
        match error["type"]:
            case "missing":
                about = _fields_at(self._model, path[:-1]).get(path[-1], {}).get("description")
                return self.finding(path, f"is missing; add it{f': {about}' if about else ''}")
            case "extra_forbidden":
                names = [name for name in _fields_at(self._model, path[:-1]) if name not in FROM_FILES]
                like = get_close_matches(str(path[-1]), names, n=1)
                meant = f"did you mean {like[0]}? The fields are" if like else "use one of"
                return self.finding(path, f"there is no such field; {meant} {', '.join(names)}")
            case "value_error":
                words = str(error["ctx"]["error"])
                if inner := re.match(r"([a-z_][\w.]*): (.*)", words, re.DOTALL):
                    return self.finding([*path, *inner[1].split(".")], inner[2])
                return self.finding(path, words)
            case "string_pattern_mismatch":
                return self.finding(
                    path,
                    f"{error['input']!r} is not a valid name: use lower-case letters, digits and _, a letter first",
                )
            case "string_type" if isinstance(error["input"], bool | int | float):
                return self.finding(path, f"{error['input']!r} is not a text; put it into quotes")
        words = error["msg"].replace("Input should", "it should")
        return self.finding(path, f"{words[0].lower()}{words[1:]}; it is {_short(error['input'])}")

    def _parse(self) -> ValueAndSourcePositionTree:
        def refused(line: int, message: str) -> DeclarationError:
            return DeclarationError([Finding(self.path, line, "", message)])

        try:
            with TextIOWrapper(durable.opened(self.path), encoding="utf-8") as file:
                text = file.read()
            documents = parse_yamls_with_source_position(text, str(self.path))
            repeated = list(_repeated(yaml.compose(text, LOADER))) if len(documents) == 1 else []
        except durable.NotRegular as error:
            raise refused(1, error.strerror or "not a regular file") from None
        except OSError:
            raise refused(
                1,
                "the file is not there; write it, begin with `python -m vroom_assets new <name>`, "
                "or delete the folder",
            ) from None
        except UnicodeDecodeError as error:
            raise refused(1, f"it is not UTF-8: {error}; save it as UTF-8") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            words = ", ".join(filter(None, (error.context, error.problem)))
            raise refused(
                mark.line + 1 if mark else 1,
                f"it is not valid YAML: {words}; look at the indentation, and put texts with `: ` or ` #` into quotes",
            ) from None
        except yaml.YAMLError as error:
            raise refused(1, f"it is not valid YAML: {error}; remove what cannot be read") from None
        if len(documents) != 1 or not isinstance(documents[0].value, dict):
            raise refused(1, "it should hold one forecast, as the fields `type` and `attributes`")
        if repeated:
            raise DeclarationError(
                [
                    Finding(self.path, line, key, "it is given twice, and only one would count; remove one")
                    for key, line in repeated
                ]
            )
        return documents[0]


def _repeated(node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Keys that stand twice in one mapping, which YAML readers pass over in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)


def _child_that_begins(message: str, tree: SourcePositionTree, value: Any) -> SourcePositionTree:
    """Of a list or mapping, the item that the message begins with: it stands on a line of its own."""
    first = re.match(r"'?(\w+)", message)
    if first is None:
        return tree
    if isinstance(value, list) and first[1] in value:
        return tree.children[value.index(first[1])]
    return tree.children.get(first[1], tree) if isinstance(value, dict) else tree


def _fields_at(model: type[DeclarationFile], path: Sequence[Key]) -> dict[str, Any]:
    """The fields that a declaration may have at a path, with their descriptions."""
    whole = model.model_json_schema()

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        node = next((one for one in node.get("anyOf", []) if one.get("type") != "null"), node)
        return whole["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node

    node = resolved(whole)
    for key in path:
        inner = node.get("properties", {}).get(key) or node.get("additionalProperties") or node.get("items")
        if not isinstance(inner, dict):
            return {}
        node = resolved(inner)
    return node.get("properties", {})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
