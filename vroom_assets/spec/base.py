"""What all parts of a declaration have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import dagster as dg
from pydantic import ConfigDict, SerializerFunctionWrapHandler, model_serializer

NAME = r"^[a-z][a-z0-9_]*$"


class Declared(dg.Model, dg.Resolvable):
    """Base of all parts of a declaration: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Fields that came later. At their defaults nothing says that they exist, so that fingerprints stay as they were.
    added: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_added_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        defaults = {name: type(self).model_fields[name].default for name in self.added}
        return {
            name: value
            for name, value in serialize(self).items()
            if name not in defaults or getattr(self, name) != defaults[name]
        }

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, some of its fields changed; what was derived from fields is derived anew."""
        copied = super().model_copy(update=update, deep=deep)
        for derived in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[derived]
        return copied
