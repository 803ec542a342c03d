"""A proposal as a folder of declarations and one of data, in which every guess is a comment."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vroom_api.contract import Kind
from vroom_assets import declaration, settings
from vroom_assets.declaration.scaffold import CannotScaffold, free_folders, schema_beside
from vroom_assets.inference import proposal as proposals
from vroom_assets.inference.notation import CannotInfer
from vroom_assets.inference.proposal import SOURCE, Proposal, Proposed, is_ordered
from vroom_assets.inference.seen import SeenColumn, called, seen
from vroom_assets.inference.series import NAME as SO_FAR
from vroom_assets.inference.series import (
    Series,
    candidates,
    examples_sql,
    features_sql,
    lines,
    names_taken,
    series_of,
    target_sql,
)
from vroom_assets.sources import files_like
from vroom_assets.sources.columns import bare
from vroom_assets.spec import ColumnType, Format
from vroom_assets.sql import as_written, identifier

KINDS = {
    Kind.COUNT: "how many",
    Kind.REGRESSION: "how much",
    Kind.BINARY: "the probability of a yes in",
}


@dataclass(frozen=True)
class Written:
    """What was made of files, and where it stands."""

    proposal: Proposal
    series: Series | None
    paths: list[Path]


def infer(
    defs: Path,
    name: str,
    files: Sequence[Path],
    target: str,
    kind: Kind | None,
    ahead: int | None = None,
) -> Written:
    """Write the declaration of a forecast of one column of a file, or of several as one source, and copy them into the data folder.

    Files that lie in the data folder of the forecast already are left where they are.

    Args:
        ahead: forecasts the target so many steps ahead, as a series; None: of each row, from its other columns.

    Raises:
        CannotScaffold: the name is not valid or taken.
        CannotInfer: nothing can be made of the files, or not of this target.
    """
    own = settings.data_folder() / name
    are_there = all(file.is_file() and file.resolve().parent == own.resolve() for file in files)
    folder, data = free_folders(defs, name, with_data=are_there)
    _refuse_other_files(files, own if are_there else None)
    with seen(files) as (connection, found):
        proposal = proposals.propose(connection, found, target, kind)
        series = None if ahead is None else series_of(connection, proposal, ahead)
    texts = _texts(proposal, series, name, schema_beside(folder))
    # Beside, then renamed: what is there is whole, and was checked.
    folder.parent.mkdir(parents=True, exist_ok=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as beside,
        tempfile.TemporaryDirectory(dir=data.parent, prefix=".") as copied,
    ):
        made = Path(beside) / name
        made.mkdir()
        for part, text in texts.items():
            (made / part).write_text(text, encoding="utf-8")
        _check(made)
        brought = [] if are_there else [data / file.name for file in files]
        for file, there in zip(files, brought, strict=False):
            shutil.copyfile(file, Path(copied) / there.name)
        if brought:
            data.mkdir(exist_ok=True)
        for there in brought:
            (Path(copied) / there.name).replace(there)
        try:
            made.replace(folder)  # an empty folder may be there
        except OSError:
            for there in brought:
                there.unlink()
            raise
    return Written(proposal, series, [*(folder / part for part in texts), *brought])


def _texts(proposal: Proposal, series: Series | None, name: str, schema: str) -> dict[str, str]:
    """The files of a declaration, by name."""
    if series is None:
        return {
            declaration.FILE: _declared(proposal, _head(proposal, name, schema), _tail(proposal)),
            "features.sql": _features(proposal),
            "target.sql": _target(proposal),
        }
    if taken := names_taken(proposal.file.columns):
        raise CannotInfer(
            f"a column is called {taken[0]}, as one of a series is; rename it in the file, or leave --ahead out"
        )
    return {
        declaration.FILE: _declared(
            proposal, _head(proposal, name, schema, series), lines(series), candidates(series)
        ),
        "features.sql": features_sql(series),
        "target.sql": target_sql(series),
        f"{SO_FAR}.sql": examples_sql(series),
    }


def _declared(
    proposal: Proposal, head: list[str], tail: list[str], candidates: dict[str, dict[str, Any]] | None = None
) -> str:
    own = proposal.candidates if candidates is None else candidates
    return "\n".join([*head, *tail, "  candidates:", *_candidate_lines(proposal, own)]) + "\n"


def _refuse_other_files(files: Sequence[Path], folder: Path | None) -> None:
    """Refuse what would not be the source that the declaration names.

    Raises:
        CannotInfer: a file is not there, two have one name, or others in the folder are like the pattern of all.
    """
    for file in files:
        if not file.is_file():
            raise CannotInfer(f"{file} is not a file; name a CSV or a Parquet file, or several of one kind")
    names = [file.name for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CannotInfer(f"two files are called {', '.join(twice)}; in the data folder they would be one")
    if folder is None or len(files) == 1:
        return
    others = {one.name for one in files_like(folder / called(files))} - set(names)
    if others:
        raise CannotInfer(
            f"{', '.join(sorted(others))} in {folder} is like the files that are named; name it too, or move it away"
        )


def _check(folder: Path) -> None:
    """Refuse to hand out a declaration that `check` would refuse.

    Raises:
        CannotInfer: it is not valid.
    """
    try:
        declaration.check_parameters(folder, declaration.read(folder))
    except declaration.DeclarationError as error:
        findings = str(error).replace(f"{folder}/", "")
        raise CannotInfer(
            f"what was made of the file is not a valid declaration; begin with `new {folder.name}` and declare it by "
            f"hand:\n{findings}"
        ) from error


def summary(proposal: Proposal, series: Series | None = None) -> Iterator[str]:
    """What was seen and decided, a line each."""
    file = proposal.file
    yield f"{file.name}: {file.rows:,} rows, {sum(one.expression is None for one in file.columns)} columns{_format_words(file.format)}"
    yield f"target: {proposal.target.header}, a {proposal.kind}: {proposal.target_why}"
    yield f"key: {proposal.key}: {proposal.key_why}"
    yield f"time: {proposal.time or 'none'}: {proposal.time_why}"
    yield f"validation: {_validation_why(proposal)}"
    if series is not None:
        yield series.summary
        return
    for note in file.notes:
        yield f"note: {note}"
    yield f"inputs: {', '.join(one.column.title for one in proposal.inputs)}"
    for one in proposal.inputs:
        if one.doubt:
            yield f"doubt: {one.column.title}: {one.doubt}"
    if proposal.has_logarithms:
        yield f"candidates: log_linear: {_logarithms_why(proposal)}"
    for one in proposal.left_out:
        yield f"left out: {one.column.title}: {one.why.removeprefix('no input: ')}"


def _format_words(format: Format) -> str:
    given = _given(format)
    return (
        f", written with {', '.join(f'{name} {value!r}' for name, value in given.items())}" if given else ""
    )


def _given(format: Format) -> dict[str, Any]:
    """What differs from RFC 4180 in UTF-8."""
    return format.model_dump(mode="json")  # defaults are left out


def _validation_why(proposal: Proposal) -> str:
    if is_ordered(proposal):
        return f"forward in time, by {proposal.time}"
    if proposal.group is not None:
        return f"rows of one {proposal.group} stay together"
    return "shuffled folds"


def _yaml(value: Any) -> str:
    """A value on one line; JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _flow(parts: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {_word(value)}" for name, value in parts.items()) + "}"


def _word(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[a-z][a-z_]*", value) and value not in YAML_WORDS
    return value if plain else _yaml(value)


YAML_WORDS = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")


def _head(proposal: Proposal, name: str, schema: str, series: Series | None = None) -> list[str]:
    """The declaration up to the columns of its source."""
    words = proposal.target_words
    what = f"{KINDS[proposal.kind]} {words}"
    if series is not None:
        what += f", {series.step.in_words(series.ahead)} ahead"
    return [
        f"# yaml-language-server: $schema={schema}",
        f"# Made from {proposal.file.name}: what was seen in it stands beside what was made of it. Every word is",
        f"# explained in docs/forecasts.md; `python -m vroom_assets check {name}` says whether what you change is sound.",
        "type: vroom_assets.forecast.Forecast",
        "attributes:",
        f"  name: {name}",
        f"  title: {_yaml(f'{words}, from {proposal.file.name}')}",
        f"  description: {_yaml(f'Forecasts {what}, from {proposal.file.name}.')}",
        "  owner: team:example  # an e-mail address, or team:<name>",
        "",
        "  sources:",
        f"    {SOURCE}:",
        f"      path: {_yaml(f'{name}/{proposal.file.name}')}",
        f"      description: {_yaml(f'{proposal.file.rows:,} rows as they are in {proposal.file.name}.')}",
        *_format_lines(proposal),
        *(
            [f"      event_time: {series.time}  # a value is taken to be known then"]
            if series is not None
            else []
        ),
        "      columns:",
        *_column_lines(proposal, with_why=series is None),
    ]


def _tail(proposal: Proposal) -> list[str]:
    target = proposal.target
    return [
        "",
        f"  entity: {{name: row, source: {SOURCE}, key: {proposal.key}}}  # {proposal.key_why}",
        f"  inputs: [{', '.join(one.column.name for one in proposal.inputs)}]",
        "",
        "  target:",
        f"    name: {target.name}",
        f"    kind: {proposal.kind}  # {proposal.target_why}",
        f"    unit: {_yaml(proposal.target_words)}",
        "    horizon: as in the file  # the period that the number covers, as text",
        *_time_lines(proposal),
        "",
        *_validation_lines(proposal),
    ]


def _format_lines(proposal: Proposal) -> list[str]:
    given = _given(proposal.file.format)
    notes = [f"      # {note}" for note in proposal.file.notes]
    parts = ", ".join(f"{name}: {_yaml(value)}" for name, value in given.items())
    return [*notes, f"      format: {{{parts}}}"] if given else notes


def _column_lines(proposal: Proposal, *, with_why: bool) -> list[str]:
    """The columns, each with what was seen in it and, where it may be an input, why it is or is not."""
    own = {one.column.name: one for one in proposal.columns}
    lines = (
        ["        row: {type: row}  # no column of the file tells rows apart"]
        if proposal.key == "row"
        else []
    )
    for column in proposal.file.columns:
        if column.expression is not None:
            continue
        proposed = own.get(column.name, Proposed(column, column.type, False, proposal.target_why))
        parts: dict[str, Any] = {"type": str(proposed.type)}
        if bare(column.header) != column.name.replace("_", ""):
            parts["header"] = column.header
        if column.joins:
            parts["joins"] = list(column.joins)
        if column.name == proposal.key:
            parts["unique"] = True
        elif column.missing:
            parts["nullable"] = True
        if (
            proposed.type.stored in (ColumnType.INTEGER, ColumnType.NUMBER)
            and proposed.type is not ColumnType.FLAG
            and isinstance(column.lowest, int | float)
            and column.lowest >= 0
        ):
            parts |= {"above": 0} if column is proposal.target and proposal.has_logarithms else {"minimum": 0}
        seen_words = f"; {column.as_words}" if not proposed.is_input and column.distinct else ""
        doubt = f"; LEAK? {proposed.doubt}" if proposed.doubt else ""
        why = f"{proposed.why}{seen_words}{doubt}" if with_why else column.as_words
        lines.append(f"        {column.name}: {_flow(parts)}  # {why}")
    return lines


def _time_lines(proposal: Proposal) -> list[str]:
    if proposal.time is None:
        return [f"    # {proposal.time_why}"]
    lines = [f"    as_of: {SOURCE}.{proposal.time}  # {proposal.time_why}"]
    return [*lines, f"    known_at: {_known_at(proposal)}"] if is_ordered(proposal) else lines


def _known_at(proposal: Proposal) -> str:
    """A name that no column has."""
    name = "known_at"
    while any(one.name == name for one in proposal.file.columns):
        name = f"target_{name}"
    return name


def _validation_lines(proposal: Proposal) -> list[str]:
    why = _validation_why(proposal)
    if is_ordered(proposal):
        return [f"  validation: {{order: {proposal.time}, blocks: 4, inner_folds: 3}}  # {why}"]
    large = proposal.file.rows >= proposals.MANY_ROWS
    parts: dict[str, Any] = {"repeats": 1 if large else 2, "inner_folds": 3}
    parts |= {"group": proposal.group} if proposal.group is not None else {}
    return [f"  validation: {_flow(parts)}  # {why}"]


def _logarithms_why(proposal: Proposal) -> str:
    return f"the target is above 0 and skewed ({proposal.skewness:.1f}, where 1 is much): its errors may grow with it"


def _candidate_lines(proposal: Proposal, candidates: dict[str, dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for name, candidate in candidates.items():
        why = f"  # {_logarithms_why(proposal)}" if "transform" in candidate else ""
        lines.append(f"    {name}:{why}")
        for field, value in candidate.items():
            if isinstance(value, dict):
                lines.append(f"      {field}: {_flow(value)}")
            elif isinstance(value, list):
                lines.append(f"      {field}: [{', '.join(value)}]")
            else:
                lines.append(f"      {field}: {value}")
    return lines


def _features(proposal: Proposal) -> str:
    lines = [_feature(one.column) for one in proposal.features]
    if (trend := proposal.trend) is not None:
        lines.append(
            f"-- days since the first row, for the trend alone\n    {trend.expression} as {trend.name}"
        )
    names = ",\n    ".join(lines)
    return (
        "-- What the models see: here every input as it is, and numbers made of times. Ratios and differences that mean\n"
        "-- something are worth adding, with a comment above each; docs/forecasts.md has the language.\n"
        f"select\n    {names}\nfrom inputs\n"
    )


def _feature(column: SeenColumn) -> str:
    name = as_written(column.name)
    return name if column.expression is None else f"{column.expression} as {name}"


def _target(proposal: Proposal) -> str:
    known = ""
    if is_ordered(proposal):
        known = (
            f",\n    -- taken to be known a second after the row; move it if it takes longer\n"
            f"    {as_written(proposal.time or '')} + interval 1 second as {_known_at(proposal)}"
        )
    name = as_written(proposal.target.name)
    plain = proposal.target_sql == identifier(proposal.target.name)
    value = name if plain else f"{proposal.target_sql} as {name}"
    return (
        "-- One row per entity: its key and what is forecast. Where it is NULL the row is not trained on.\n"
        f"select\n    {as_written(proposal.key)},\n    {value}{known}\nfrom {SOURCE}\n"
    )


__all__ = ["CannotInfer", "CannotScaffold", "infer", "summary"]
