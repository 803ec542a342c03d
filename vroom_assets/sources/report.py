"""What the check of every row of a file found, in sentences for people."""

from __future__ import annotations

from dataclasses import dataclass, field

from vroom_assets.sources.files import SourceError

MAX_VALUE_LENGTH = 60
MAX_LISTED = 50


class SourceRefused(SourceError):
    """The file breaks its contract as a whole; `report` has the findings."""

    def __init__(self, message: str, report: SourceReport):
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Finding:
    """Rows that break one rule in one column, with the first few as sentences."""

    column: str
    rule: str
    rows: int
    examples: list[str]


@dataclass(frozen=True)
class SourceReport:
    """How many rows a file has, how many of them are bad, and by which rules."""

    file: str
    read: int = 0
    quarantined: int = 0
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return self.read - self.quarantined

    def as_markdown(self) -> str:
        """The findings as a table for people."""
        lines = [
            f"{self.file}: {self.read} rows read, {self.accepted} accepted, {self.quarantined} quarantined."
        ]
        lines += [f"Note: {_plain(warning)}." for warning in self.warnings]
        if self.findings:
            lines += ["", "| column | rule | rows | examples |", "|---|---|---|---|"]
            lines += [
                f"| {_plain(one.column)} | {one.rule} | {one.rows} | {'<br>'.join(map(_plain, one.examples))} |"
                for one in self.findings[:MAX_LISTED]
            ]
        if len(self.findings) > MAX_LISTED:
            lines.append(f"\n… and {len(self.findings) - MAX_LISTED} rules more.")
        return "\n".join(lines)


def _plain(text: str) -> str:
    """Text of a file as text: it is not to become markup on a page."""
    for character, written in {"&": "&amp;", "<": "&lt;", "|": "\\|", "`": "\\`", "\n": " "}.items():
        text = text.replace(character, written)
    return text


def sentence(file: str, line: int, column: str, rule: str, value: str | None, words: str) -> str:
    """One finding: file, line and column, what is there, and what is wrong with it."""
    where = f"{file} line {line}" + (f", column {column}" if column else "")
    if value is None:
        return f"{where}: {words}"
    displayed = value if len(value) <= MAX_VALUE_LENGTH else value[:MAX_VALUE_LENGTH] + "…"
    return f"{where}: {displayed if rule == 'range' else repr(displayed)} {words}"
