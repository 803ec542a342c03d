"""A declaration as files: read whole, or refused with file, line, field and remedy of what is wrong.

A declaration is checked in three rounds, each on what passed the one before: the text of
``defs.yaml`` and the types of its fields (`document`), how the fields fit together (`rules`), and the
statements beside it (`dry_run`). A round reports all that it finds.
"""

from vroom_assets.declaration.document import FILE, FROM_FILES, DeclarationFile
from vroom_assets.declaration.findings import DeclarationError, Finding
from vroom_assets.declaration.reading import (
    SCHEMA,
    check_parameters,
    folders,
    read,
    schema,
)
from vroom_assets.declaration.rules import OWN_FOLDERS

__all__ = [
    "FILE",
    "FROM_FILES",
    "OWN_FOLDERS",
    "SCHEMA",
    "DeclarationError",
    "DeclarationFile",
    "Finding",
    "check_parameters",
    "folders",
    "read",
    "schema",
]
