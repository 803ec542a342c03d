"""Another name for a forecast: its champion, bundles, record, ledger and registry go along.

What is to be done is written down first and deleted last, and every step finds out whether it was done: the command
that was interrupted is run again and goes on. Bundles never change, so those from before keep saying the former name
(`contract.former_names`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vroom_api.contract import FORECAST_NAME, FORMER_NAMES, durable, forecast_folder, former_names
from vroom_api.contract.decoding import decode
from vroom_assets import settings

if TYPE_CHECKING:
    import yaml
    from mlflow import MlflowClient

UNFINISHED = ".renaming.json"


class CannotRename(Exception):
    """Why nothing was renamed; the message says what to do instead."""


class Unfinished(Exception):
    """A forecast is half renamed; the message says how to go on."""


class Renaming(msgspec.Struct, frozen=True):
    """What is under way."""

    former: str
    present: str
    began: str
    with_data: bool  # whether the folder of its CSVs has its name, and is its own


def rename(home: Path, former: str, present: str) -> Renaming:
    """Give a forecast another name, or finish doing so.

    Raises:
        CannotRename: nothing was changed.
    """
    under_way = _under_way(home)
    if under_way is None:
        if faults := list(_faults(home, former, present)):
            raise CannotRename("; ".join(faults))
        began = datetime.now(UTC).isoformat(timespec="seconds")
        under_way = Renaming(former, present, began, _has_data_of_its_own(former, present))
        durable.replace(home / UNFINISHED, msgspec.json.encode(under_way))
    elif (under_way.former, under_way.present) != (former, present):
        raise CannotRename(_go_on(under_way))
    for step in STEPS:
        step(home, under_way)
    (home / UNFINISHED).unlink()
    durable.sync(home)
    return under_way


def check_finished(home: Path) -> None:
    """Nothing is to work in a home that is half renamed.

    Raises:
        Unfinished: a forecast is.
    """
    if (under_way := _under_way(home)) is not None:
        raise Unfinished(_go_on(under_way))


def _under_way(home: Path) -> Renaming | None:
    try:
        return decode(durable.read(home / UNFINISHED), Renaming)
    except FileNotFoundError:
        return None


def _go_on(under_way: Renaming) -> str:
    return (
        f"{under_way.former} is half renamed to {under_way.present}, since {under_way.began}; run `python -m vroom_assets "
        f"rename {under_way.former} {under_way.present}`, which finishes it"
    )


def _faults(home: Path, former: str, present: str) -> Iterator[str]:
    """Why a forecast cannot have a name."""
    from vroom_assets import declaration

    def is_name(text: str) -> bool:
        return FORECAST_NAME.fullmatch(text) is not None and text not in declaration.OWN_FOLDERS

    if not is_name(present):
        yield (
            f"{present!r} is not a valid name for a forecast: use lower-case letters, digits and _, a letter first, and "
            f"none of {', '.join(declaration.OWN_FOLDERS)}"
        )
        return
    if former == present:
        yield f"{former} has this name already"
        return
    own = (home / former, settings.defs_folder() / former)
    if not is_name(former) or not any(folder.is_dir() for folder in own):
        yield f"there is no forecast {former!r}: it is not declared, and {home} has nothing of it"
        return
    taken = "is there already; choose another name, or move it away"
    if forecast_folder(present, home).exists():
        yield f"{forecast_folder(present, home)} {taken}"
    if (settings.defs_folder() / former).is_dir() and (settings.defs_folder() / present).exists():
        yield f"{settings.defs_folder() / present} {taken}"
    declared = _declaration_of(former, present)
    try:
        if _has_data_of_its_own(former, present) and (settings.data_folder() / present).exists():
            yield f"{settings.data_folder() / present} {taken}"
    except ValueError as error:
        yield f"{declared}: {error}; `python -m vroom_assets check {declared.parent.name}` says what is wrong"
    if tables := _tables_with(present):
        yield f"the serving database has entries of {present} ({', '.join(tables)}); choose another name"
    if in_mlflow := _in_mlflow(home, present):
        yield f"MLflow has {in_mlflow} {present!r}; choose another name, or delete it there for good"


def _tables_with(forecast: str) -> list[str]:
    """The tables of the serving database that have rows of a forecast."""
    import sqlalchemy as sa

    from vroom_api.contract.blocks import expand_blocks
    from vroom_api.contract.tables import (
        checks,
        commands,
        entities,
        ledger,
        outcomes,
        predictions,
        serving_database,
        shadow_predictions,
    )

    with serving_database() as engine:
        expand_blocks(engine)
        with engine.connect() as connection:
            return [
                table.name
                for table in (
                    predictions,
                    outcomes,
                    ledger,
                    checks,
                    commands,
                    entities,
                    shadow_predictions,
                )
                if connection.execute(
                    sa.select(table.c.id).where(table.c.forecast == forecast).limit(1)
                ).first()
            ]


def _client(home: Path) -> MlflowClient | None:
    """MLflow; None where nothing was ever trained."""
    from vroom_api.contract.environment import sqlite_url
    from vroom_assets import tracking

    own = home / "mlflow" / "mlflow.db"
    if settings.tracking_uri() == sqlite_url(own) and not own.is_file():
        return None
    return tracking.connect()


def _in_mlflow(home: Path, name: str) -> str | None:
    """What MLflow has under a name."""
    client = _client(home)
    if client is None:
        return None
    if client.get_experiment_by_name(name) is not None:
        return "an experiment"
    return "a registered model" if _registered(client, name) else None


def _registered(client: MlflowClient, name: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _rename_in_mlflow(home: Path, under_way: Renaming) -> None:
    from vroom_assets.relocation import rename_experiment_folder

    client = _client(home)
    if client is None:
        return
    experiment = client.get_experiment_by_name(under_way.former)
    if experiment is not None and experiment.lifecycle_stage == "active":
        client.rename_experiment(experiment.experiment_id, under_way.present)
    if _registered(client, under_way.former):
        client.rename_registered_model(under_way.former, under_way.present)
    folder = home / "mlflow"
    rename_experiment_folder(folder / "mlflow.db", folder / "artifacts", under_way.former, under_way.present)


def _rename_in_record(home: Path, under_way: Renaming) -> None:
    """All rows and the entry in the ledger, in one transaction: so the entry says that it was done."""
    import sqlalchemy as sa

    from vroom_api.contract.blocks import expand_blocks
    from vroom_api.contract.events import Decision, Event, Renamed
    from vroom_api.contract.tables import (
        alerts,
        append_entry,
        checks,
        commands,
        entities,
        event_log,
        ledger,
        outcomes,
        predictions,
        serving_database,
        shadow_predictions,
    )

    evidence = Renamed(before=under_way.former, after=under_way.present, began=under_way.began)
    query = sa.select(ledger.c.evidence).where(
        ledger.c.forecast == under_way.present, ledger.c.event == Event.RENAMING
    )
    with serving_database() as engine:
        expand_blocks(engine)
    with serving_database() as engine, engine.begin() as connection:
        if msgspec.to_builtins(evidence) in list(connection.scalars(query)):
            return
        # One may be open under the new name too. What still is so is found again at the next start.
        still_open = alerts.c.forecast == under_way.former, alerts.c.resolved_at.is_(None)
        connection.execute(alerts.update().where(*still_open).values(resolved_at=datetime.now(UTC)))
        for table in (
            predictions,
            outcomes,
            ledger,
            checks,
            alerts,
            commands,
            event_log,
            entities,
            shadow_predictions,
        ):
            connection.execute(
                table.update().where(table.c.forecast == under_way.former).values(forecast=under_way.present)
            )
        append_entry(
            connection,
            forecast=under_way.present,
            actor="command rename",
            decision=Decision.RENAMED,
            reason=f"{under_way.former} is called {under_way.present}; its record and its ledger are under that name",
            evidence=evidence,
        )


def _rename_in_home(home: Path, under_way: Renaming) -> None:
    """Bundles, pointers, stored inputs, warehouse and snapshots."""
    folder = forecast_folder(under_way.former, home)
    if not folder.is_dir():
        return
    before = former_names(under_way.former, home)
    if under_way.former not in before:
        durable.replace(folder / FORMER_NAMES, msgspec.json.encode([*before, under_way.former]))
    _move(folder, forecast_folder(under_way.present, home))


def _rename_data(_: Path, under_way: Renaming) -> None:
    folder = settings.data_folder() / under_way.former
    if under_way.with_data and folder.is_dir():
        _move(folder, settings.data_folder() / under_way.present)


def _rename_declaration(_: Path, under_way: Renaming) -> None:
    former = settings.defs_folder() / under_way.former
    if former.is_dir():
        _move(former, settings.defs_folder() / under_way.present)
    file = _declaration_of(under_way.former, under_way.present)
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        renamed = _with_name(text, under_way)
        if renamed != text:
            durable.replace(file, renamed.encode())


# The declaration last: with it a sensor would begin.
STEPS: tuple[Callable[[Path, Renaming], None], ...] = (
    _rename_in_mlflow,
    _rename_in_record,
    _rename_in_home,
    _rename_data,
    _rename_declaration,
)


def _move(folder: Path, to: Path) -> None:
    os.rename(folder, to)
    durable.sync(to.parent)


def _declaration_of(former: str, present: str) -> Path:
    """The declaration, which somebody may have given its new name by hand."""
    from vroom_assets import declaration

    names = (former, present)
    files = [settings.defs_folder() / name / declaration.FILE for name in names]
    return next((file for file in files if file.is_file()), files[0])


def _has_data_of_its_own(former: str, present: str) -> bool:
    """Whether the CSVs lie in the folder that `new` makes, and no other declaration names them.

    Raises:
        ValueError: the declaration cannot be read.
    """

    own = _declaration_of(former, present)
    if not own.is_file() or not (settings.data_folder() / former).is_dir():
        return False

    paths = _paths(own.read_text(encoding="utf-8"))
    return any(path.value.startswith(f"{former}/") for path in paths) and not _named_elsewhere(former, own)


def _named_elsewhere(folder: str, own: Path) -> bool:
    """Whether another declaration, of a forecast or of an ingestion, names a folder of data."""
    path = re.compile(rf"(?<![\w./-]){folder}/")
    others = (file for file in settings.defs_folder().rglob("*.yaml") if file != own)
    return any(path.search(file.read_text(encoding="utf-8", errors="replace")) for file in others)


def _attributes(text: str) -> dict[str, yaml.Node]:
    """The fields of a declaration, with where they stand."""
    import yaml

    try:
        return _fields(_fields(yaml.compose(text, yaml.SafeLoader)).get("attributes"))
    except yaml.YAMLError as error:
        raise ValueError(f"it is not valid YAML: {' '.join(str(error).split())}") from error


def _fields(node: yaml.Node | None) -> dict[str, yaml.Node]:
    import yaml

    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _paths(text: str) -> list[yaml.ScalarNode]:
    """The paths of the sources."""
    import yaml

    found = (_fields(source).get("path") for source in _fields(_attributes(text).get("sources")).values())
    return [path for path in found if isinstance(path, yaml.ScalarNode)]


def _with_name(text: str, under_way: Renaming) -> str:
    """A declaration with the present name, and its comments and layout as they were."""
    name = _attributes(text).get("name")
    changed = [name] if name is not None and name.value == under_way.former else []
    if under_way.with_data:
        changed += [path for path in _paths(text) if path.value.startswith(f"{under_way.former}/")]
    for node in sorted(changed, key=lambda one: -one.start_mark.index):
        before, written, after = (
            text[: node.start_mark.index],
            text[node.start_mark.index : node.end_mark.index],
            text[node.end_mark.index :],
        )
        text = before + re.sub(re.escape(under_way.former), under_way.present, written, count=1) + after
    return text
