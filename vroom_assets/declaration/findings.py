"""What is wrong with a declaration: file, line, field and remedy."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that is wrong, and where; the message says what to do."""

    path: Path
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        path = self.path.absolute()
        displayed = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        return ": ".join(filter(None, (f"{displayed}:{self.line}", self.field, self.message)))


class DeclarationError(Exception):
    """A declaration that cannot be used; the message has a line for each finding."""

    def __init__(self, findings: Sequence[Finding]):
        self.findings = list(findings)
        super().__init__("\n".join(map(str, findings)))


def _refuse(findings: Iterator[Finding]) -> None:
    if found := sorted(findings, key=lambda one: (one.path, one.line)):
        raise DeclarationError(found)
