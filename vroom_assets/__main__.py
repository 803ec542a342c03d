"""`python -m vroom_assets`: the whole system under one supervisor.

    python -m vroom_assets               a champion if there is none, then Dagster, the service and MLflow
    python -m vroom_assets materialize   everything from the sources to the champion, once, and stop
    python -m vroom_assets new <name>    a new forecast: a small working example under defs/ and data/
    python -m vroom_assets check [name]  whether the declarations are valid, before anything runs
    python -m vroom_assets retire <name> <reason>   ends the champion of a forecast whose declaration was taken away
    python -m vroom_assets schema        the JSON schema of defs.yaml, for editors

State is under VROOM_HOME (default ``var``); everything listens on 127.0.0.1. Ports are VROOM_DAGSTER_PORT,
VROOM_API_PORT and VROOM_MLFLOW_PORT, by default 3000, 8000 and 5000 or the next ones that are free.
"""

from __future__ import annotations

import json
import shlex
import sys
import textwrap

from vroom_api.contract import FORECAST_NAME
from vroom_api.contract.environment import BadSetting, forecast
from vroom_assets import settings
from vroom_assets.damage import DamagedDatabase, check_databases
from vroom_assets.home_lock import HomeInUse, hold
from vroom_assets.supervisor import CannotStart, fail_abandoned_runs, prepare_home, start


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


def check(names: list[str]) -> int:
    """Print for each declaration whether it is valid, and return 1 if one is not."""
    from vroom_assets import declaration

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
            if not (settings.data_folder() / source.path).is_file():
                print(f"  {settings.data_folder() / source.path} is not there yet; nothing runs without it")
    return 1 if broken else 0


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


def main() -> int:
    try:
        match sys.argv[1:]:
            case []:
                return start()
            case ["materialize"]:
                folder = prepare_home()
                hold(
                    folder,
                    "python -m vroom_assets materialize",
                    f"To train while it runs, start the job {forecast()}_retrain on Dagster's page.",
                )
                check_databases(folder)
                fail_abandoned_runs()
                return materialize()
            case ["check", *names]:
                return check(names)
            case ["schema"]:
                return schema()
            case ["new", name]:
                return new(name)
            case ["retire", name, *words] if words and FORECAST_NAME.fullmatch(name):
                prepare_home()
                return retire(name, " ".join(words))
        raise CannotStart(
            f"unknown command {shlex.join(sys.argv[1:])!r}: use none, materialize, new <name>, check [name], retire <name> <reason> or schema"
        )
    except (CannotStart, BadSetting, HomeInUse, DamagedDatabase) as error:
        print(f"Vroom cannot start: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
