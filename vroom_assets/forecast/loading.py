"""Folders of declarations, each loaded by itself, so that a broken one stops no other."""

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg

from vroom_assets import declaration
from vroom_assets.alerts import raise_broken_declaration
from vroom_assets.forecast.component import Forecast

log = logging.getLogger("vroom")


def declared(folder: Path, shared: dg.Definitions) -> dg.Definitions:
    """What a folder declares. A broken declaration becomes an asset that says so, and stops no other forecast.

    Args:
        shared: what all forecasts use; with it the definitions have to be complete.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            tree = component_tree(folder)
            if not tree.get_all_components(Forecast):
                raise LookupError("it declares no forecast")
            loaded = tree.build_defs(folder)
            dg.Definitions.validate_loadable(dg.Definitions.merge(loaded, shared))
    except Exception as error:  # whatever it is, it is this forecast's alone
        return refused(folder, what_is_wrong(folder, error))
    return loaded


def what_is_wrong(folder: Path, error: Exception) -> str:
    """Why a folder did not load: what we say of its declaration, else what was raised.

    Dagster wraps what a component raises, and stops by itself at a file that is not YAML or names no class. So
    a broken declaration, and no other, is read once more, for its findings.
    """
    try:
        declaration.read(folder)
    except declaration.DeclarationError as findings:
        return str(findings)
    return f"{folder / declaration.FILE}: {error.__cause__ or error}"


def component_tree(folder: Path) -> dg.ComponentTree:
    """Dagster's reading of one folder alone: a tree of them all stops at the first that is broken."""
    module = ModuleType(folder.name)
    module.__file__, module.__path__ = None, [str(folder)]
    return dg.ComponentTree.from_module(module, project_root=folder)


def refused(folder: Path, message: str) -> dg.Definitions:
    """Instead of a forecast: an asset that says what is wrong with its declaration, as a failed check.

    A declaration has no run that could fail, so a sensor reports the check; once, because Dagster keeps it. The alert
    is raised at every tick: it is over once there is none.
    """
    name = re.sub(r"\W", "_", folder.name)
    own = dg.AssetKey([name, "declaration"])
    log.error(f"The forecast {folder.name} is left out, its declaration is broken:\n{message}")

    @dg.asset(
        key=own,
        group_name=name,
        kinds={"yaml"},
        description=(
            "This forecast is left out until its declaration is correct. Change the files, then press "
            f"*Reload definitions*.\n\n```\n{message}\n```"
        ),
        check_specs=[dg.AssetCheckSpec("valid", asset=own, description="The declaration can be used.")],
    )
    def broken() -> Iterator[Any]:
        yield dg.AssetCheckResult(check_name="valid", passed=False, description=message)
        raise dg.Failure(description=message, allow_retries=False)

    @dg.sensor(
        name=f"{name}_declaration",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports what is wrong with the declaration.",
    )
    def report(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        raise_broken_declaration(name, message)
        if context.cursor == message:
            return dg.SkipReason(f"the declaration is broken as before:\n{message}")
        failed = dg.AssetCheckEvaluation(
            asset_key=own,
            check_name="valid",
            passed=False,
            description=message,
            metadata={"findings": dg.MetadataValue.md(f"```\n{message}\n```")},
        )
        return dg.SensorResult(asset_events=[failed], cursor=message)

    return dg.Definitions(assets=[broken], sensors=[report])
