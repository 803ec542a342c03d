"""`python -m vroom_assets`: the whole system under one supervisor.

    python -m vroom_assets               a champion if there is none, then Dagster, the service and MLflow
    python -m vroom_assets materialize   everything from the sources to the champion, once, and stop
    python -m vroom_assets new <name>    a new forecast: a small working example under defs/ and data/
    python -m vroom_assets new <name> --from <file> --target <column>   a new forecast of a column of a CSV
    python -m vroom_assets check [name]  whether the declarations are valid, before anything runs; --data: the CSVs too
    python -m vroom_assets explain <name>   what was learnt, one page of Markdown; --out <file>: into a file, .html as HTML
    python -m vroom_assets score <name>   predictions of all entities as Parquet; --input <file>: of its rows
    python -m vroom_assets replay <name>   recorded requests answered by another version, before it gets any traffic
    python -m vroom_assets rebuild <name>   trains a version again from its snapshots: is it the same?
    python -m vroom_assets retire <name> <reason>   ends the champion of a forecast whose declaration was taken away
    python -m vroom_assets rename <old> <new>   another name for a forecast, with all that it has
    python -m vroom_assets schema        the JSON schema of defs.yaml, for editors

State is under VROOM_HOME (default ``var``); everything listens on 127.0.0.1. Ports are VROOM_DAGSTER_PORT,
VROOM_API_PORT and VROOM_MLFLOW_PORT, by default 3000, 8000 and 5000 or the next ones that are free.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from vroom_api.contract import Kind
from vroom_api.contract.damage import DamagedDatabase
from vroom_api.contract.environment import BadSetting, forecast, home
from vroom_assets import arguments, renaming, settings
from vroom_assets.damage import check_databases
from vroom_assets.home_lock import HomeInUse, hold
from vroom_assets.supervisor import CannotStart, fail_abandoned_runs, prepare_home, start

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from vroom_assets.spec import ForecastSpec


def materialize() -> int:
    """Everything from the sources to the champion, for every declared forecast, in this process."""
    import dagster as dg

    from vroom_assets import declaration
    from vroom_assets.definitions import defs
    from vroom_assets.local_run import execute

    loaded = defs()
    loaded = loaded.load_fn() if hasattr(loaded, "load_fn") else loaded
    console = {"loggers": {"console": {"config": {"log_level": "INFO", "name": "vroom"}}}}
    names = sorted(
        job.name.removesuffix("_retrain")
        for job in loaded.resolve_all_job_defs()
        if job.name.endswith("_retrain")
    )
    if forecast() not in names:
        if settings.defs_folder() / forecast() in declaration.folders():
            raise CannotStart(
                f"VROOM_FORECAST={forecast()!r}: its declaration is broken; correct what is listed above"
            )
        raise CannotStart(f"VROOM_FORECAST={forecast()!r}: no such forecast; declared are {', '.join(names)}")
    with dg.DagsterInstance.get() as instance:
        return 0 if execute(instance, loaded.resolve_job_def(f"{forecast()}_retrain"), console) else 1


def check(names: list[str], *, data: bool = False) -> int:
    """Print for each declaration whether it is valid, and return 1 if one is not.

    Args:
        data: also check the CSVs, every row of them.
    """
    from vroom_assets import declaration, sources

    folders = [settings.defs_folder() / name for name in names] or declaration.folders()
    if not folders:
        print(f"no forecast is declared under {settings.defs_folder()}; begin with `new <name>`")
        return 1
    broken = 0
    for folder in folders:
        try:
            spec = declaration.read(folder)
            declaration.check_parameters(folder, spec)
        except declaration.DeclarationError as error:
            broken += 1
            print(f"{folder.name}: broken\n{textwrap.indent(str(error), '  ')}")
            continue
        print(
            f"{folder.name}: ok, {len(spec.sources)} sources, {len(spec.inputs)} inputs, "
            f"{len(spec.candidates)} candidates"
        )
        for source in spec.sources.values():
            if not any(one.is_file() for one in sources.files_like(settings.data_folder() / source.path)):
                print(f"  {settings.data_folder() / source.path} is not there yet; nothing runs without it")
        broken += data and not check_data(spec)
    return 1 if broken else 0


def check_data(spec: ForecastSpec) -> bool:
    """Print what is wrong with the CSVs of a forecast, and say whether a training would take them."""
    import duckdb

    from vroom_assets import sources

    accepted = True
    with duckdb.connect() as connection:
        for name, source in spec.sources.items():
            folder = settings.data_folder()
            files = [
                sources.NamedFile(path, f"data/{path.relative_to(folder)}")
                for path in sources.files_like(folder / source.path)
            ]
            try:
                report = sources.load(connection, name, source, files, spec.past_columns(name))
            except sources.SourceRefused as error:
                accepted, report = False, error.report
                print(f"  refused: {error}")
            words = f"{report.accepted:,} of {report.read:,} rows accepted"
            print(f"  data/{source.path}: {words}" if report.read else f"  data/{source.path}: not read")
            for finding in report.findings:
                print(f"    {finding.rows:,} rows: {finding.examples[0]}")
            for warning in report.warnings:
                print(f"    note: {warning}")
        return accepted and check_features(connection, spec)


def check_features(connection: DuckDBPyConnection, spec: ForecastSpec) -> bool:
    """Print why the tables yield no features or targets, or such as a candidate cannot be fitted on."""
    from vroom_assets.features import table
    from vroom_assets.training.fitting import refuse_targets
    from vroom_assets.training.models import CandidateError

    for name in spec.sources:
        table.note_origin(connection, name, {"snapshot": "checked", "modified": ""})
    try:
        table.build(connection, spec)
        target = table.read(connection, spec).target
    except table.DatasetError as error:
        print(f"  refused: {error}")
        return False
    accepted = True
    for name, candidate in spec.candidates.items():
        try:
            refuse_targets(name, candidate, target)
        except CandidateError as error:
            accepted = False
            print(f"  refused: {error}")
    print(f"  {spec.target.name}: {len(target):,} rows to train on")
    return accepted


def schema() -> int:
    """Print the JSON schema of defs.yaml."""
    from vroom_assets import declaration

    print(json.dumps(declaration.schema(), indent=2, ensure_ascii=False))
    return 0


def new(name: str) -> int:
    """Write a small working forecast and say what to do with it."""
    from vroom_assets.declaration import scaffold

    try:
        written = scaffold.write(settings.defs_folder(), name)
    except scaffold.CannotScaffold as error:
        print(f"Nothing was written: {error}", file=sys.stderr)
        return 2
    print("\n".join(f"wrote {path}" for path in written))
    print(
        f"\nIt works as it is:\n\n"
        f"  python -m vroom_assets check {name}\n"
        f"  VROOM_FORECAST={name} python -m vroom_assets materialize"
    )
    return 0


def new_from(name: str, files: list[Path], target: str, kind: Kind | None, ahead: int | None) -> int:
    """Write the declaration of a forecast of a column of files, and say what was seen and what to do with it."""
    from vroom_assets.inference import writing

    try:
        written = writing.infer(settings.defs_folder(), name, files, target, kind, ahead)
    except (writing.CannotScaffold, writing.CannotInfer) as error:
        print(f"Nothing was written: {error}", file=sys.stderr)
        return 2
    print("\n".join(writing.summary(written.proposal, written.series)))
    print("\n".join(f"wrote {path}" for path in written.paths))
    print(
        f"\nEach guess stands as a comment in {declared_in(written.paths[0])}. It works as it is:\n\n"
        f"  python -m vroom_assets check {name} --data\n"
        f"  VROOM_FORECAST={name} python -m vroom_assets materialize\n"
        f"  make run FORECAST={name}"
    )
    return 0


def declared_in(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def explain(name: str, out: Path | None) -> int:
    """Print or write what was learnt about a forecast, and return 1 where there is no champion to tell of."""
    from vroom_api.contract import durable
    from vroom_assets.report import facts, page, rendering

    try:
        found = facts.facts_of(name)
    except facts.UnknownForecast as error:
        print(error, file=sys.stderr)
        return 2
    learnt = page.page_of(found)
    if out is None:
        print(rendering.markdown(learnt), end="")
        return 0 if found.bundle else 1
    as_html = out.suffix.lower() in (".html", ".htm")
    text = rendering.html(learnt) if as_html else rendering.markdown(learnt)
    try:
        durable.replace(out, text.encode())
    except OSError as error:
        print(f"{out} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"wrote {out}")
    return 0 if found.bundle else 1


def score(name: str, given: Path | None, output: Path | None, version: int | None) -> int:
    """Predict all entities or the rows of a file into a Parquet file, and return 2 where nothing was written."""
    from vroom_api.contract import forecast_folder
    from vroom_assets.scoring import reading, writing

    output = output or forecast_folder(name) / "predictions.parquet"
    try:
        champion = writing.champion_of(name, version)
        source = (
            reading.StoredRows(champion.entities, name)
            if given is None
            else reading.FileRows(given, champion.manifest.inputs)
        )
        done = writing.score(champion, source, output, lambda line: print(line, file=sys.stderr))
    except (writing.CannotScore, reading.CannotRead) as error:
        print(f"Nothing was written: {error}", file=sys.stderr)
        return 2
    print(f"wrote {output}: {done.rows:,} rows by version {champion.version} in {done.seconds:.1f} s")
    if done.refused:
        print(f"{done.refused:,} of them have no answer; the column refused says why, e.g. {done.example}")
    return 0


def replay(name: str, version: int | None, last: int, *, as_json: bool) -> int:
    """Print how a version answers the latest recorded requests, and return 2 where it cannot."""
    import msgspec

    from vroom_api.contract import BundleError
    from vroom_api.contract.tables import serving_database
    from vroom_assets.champion.versions import UnknownVersion, version_of
    from vroom_assets.monitoring import replay

    try:
        wanted = version_of(name, version)
        with serving_database() as engine:
            found = replay.replay(engine, name, wanted, last)
    except (UnknownVersion, replay.NothingRecorded, BundleError) as error:
        print(f"Nothing was replayed: {error}", file=sys.stderr)
        return 2
    lines = [msgspec.json.encode(found).decode()] if as_json else replay.described(found)
    print("\n".join(lines))
    return 0


def rebuild(name: str, version: int | None, into: Path | None) -> int:
    """Train a version again from its snapshots, and return 1 where it is another model, 2 where it cannot be trained."""
    import tempfile

    from vroom_assets.champion.versions import UnknownVersion, version_of
    from vroom_assets.monitoring import rebuild

    try:
        bundle = version_of(name, version).bundle
        with tempfile.TemporaryDirectory() as scratch:
            folder = into or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise rebuild.CannotRebuild(f"{folder} is not empty; name a folder of its own")
            found = rebuild.rebuild(name, bundle, folder)
    except OSError as error:
        print(f"Nothing was rebuilt: {error.filename or into}: {error.strerror}", file=sys.stderr)
        return 2
    except (UnknownVersion, rebuild.CannotRebuild) as error:
        print(f"Nothing was rebuilt: {error}", file=sys.stderr)
        return 2
    print("\n".join(rebuild.described(found)))
    return 0 if found.agrees else 1


def retire(name: str, reason: str) -> int:
    """End the champion of a forecast that is declared no more."""
    from vroom_api.contract import BundleError
    from vroom_api.contract.store import NothingServes
    from vroom_assets import declaration
    from vroom_assets.champion import publication

    if settings.defs_folder() / name in declaration.folders():
        print(
            f"{name} is still declared in {settings.defs_folder() / name}, and its sensor would publish it again: "
            "take the folder away and press *Reload definitions* first",
            file=sys.stderr,
        )
        return 2
    try:
        pointer = publication.retire(name, reason)
    except (NothingServes, BundleError) as error:
        print(f"Nothing was retired: {error}", file=sys.stderr)
        return 2
    print(f"{name}: version {pointer.version} serves no more; its record, bundles and history stay.")
    return 0


def rename(home: Path, former: str, present: str) -> int:
    """Give a forecast another name, and say what follows."""
    try:
        done = renaming.rename(home, former, present)
    except renaming.CannotRename as error:
        print(f"Nothing was renamed: {error}", file=sys.stderr)
        return 2
    print(f"{former} is called {present}: its champion, bundles, record, ledger and what MLflow has of it.")
    if (settings.data_folder() / former).is_dir() and not done.with_data:
        print(f"{settings.data_folder() / former} stays where it is.")
    print(
        "Its name is part of what its data are made of, so its sensor trains it once; the champion serves meanwhile."
    )
    if forecast() == former:
        print(f"The short routes are those of {former} still: set VROOM_FORECAST={present}.")
    return 0


def run(given: argparse.Namespace) -> int:
    """Carry out a command, and return its exit code."""
    match given.command:
        case None:
            return start()
        case "materialize":
            folder = prepare_home()
            hold(
                folder,
                "python -m vroom_assets materialize",
                f"To train while it runs, start the job {forecast()}_retrain on Dagster's page.",
            )
            renaming.check_finished(folder)
            check_databases(folder)
            fail_abandoned_runs()
            return materialize()
        case "check":
            return check(given.names, data=given.data)
        case "schema":
            return schema()
        case "new" if given.files is None:
            return new(given.name)
        case "new":
            return new_from(
                given.name, given.files, given.target, given.kind and Kind(given.kind), given.ahead
            )
        case "rename":
            folder = prepare_home()
            hold(folder, "python -m vroom_assets rename")
            return rename(folder, given.name, given.present)
        case "explain":
            settings.hand_down_home(home())
            return explain(given.name, given.out)
        case "score":
            settings.hand_down_home(home())
            return score(given.name, given.input, given.output, given.version)
        case "replay":
            settings.hand_down_home(home())
            return replay(given.name, given.version, given.last, as_json=given.json)
        case "rebuild":
            settings.hand_down_home(home())
            return rebuild(given.name, given.version, given.into)
        case "retire":
            prepare_home()
            return retire(given.name, " ".join(given.reason))
    raise TypeError(f"{given.command} is not carried out")


def main() -> int:
    try:
        return run(arguments.parsed(__doc__ or "", sys.argv[1:]))
    except arguments.BadArguments as error:
        print(
            f"Vroom cannot start: unknown command {shlex.join(sys.argv[1:])!r}: {error}",
            file=sys.stderr,
        )
    except (CannotStart, BadSetting, HomeInUse, DamagedDatabase, renaming.Unfinished) as error:
        print(f"Vroom cannot start: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
