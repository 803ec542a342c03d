"""A new forecast: a small working example under a name of its own, to be changed into what is wanted.

`python -m vroom_assets new <name>` and, where Dagster's `dg` is installed, `dg scaffold defs` both write it.
"""

import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import dagster as dg

from vroom_assets import declaration, settings

TEMPLATE = Path(__file__).parent / "template"
ROWS = 300


class CannotScaffold(Exception):
    """Why no forecast was written; the message says what to choose instead."""


class ForecastScaffolder(dg.Scaffolder):
    """Dagster's way to the same."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        if request.scaffold_format != "yaml":
            raise CannotScaffold("a forecast is declared in YAML; leave the format out")
        write(request.target_path.parent, request.target_path.name)


def write(defs: Path, name: str) -> list[Path]:
    """Write a declaration below the folder of all, and its data into the data folder, and return the files.

    Raises:
        CannotScaffold: it is not a valid name for a forecast, or taken.
    """
    folder, data = free_folders(defs, name)
    folder.mkdir(parents=True, exist_ok=True)
    written = [Path(shutil.copy(file, folder)) for file in sorted(TEMPLATE.iterdir())]
    main = folder / declaration.FILE
    text = main.read_text(encoding="utf-8").replace("my_forecast", name)
    main.write_text(text.replace("forecast.schema.json", schema_beside(folder)), encoding="utf-8")
    data.mkdir(parents=True, exist_ok=True)
    (data / "trips.csv").write_text(example_rows(), encoding="utf-8")
    return [*written, data / "trips.csv"]


def free_folders(defs: Path, name: str, *, with_data: bool = False) -> tuple[Path, Path]:
    """The folders of a new forecast's declaration and of its data.

    Args:
        with_data: the folder of data may hold some.

    Raises:
        CannotScaffold: it is not a valid name for a forecast, or taken.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in declaration.OWN_FOLDERS:
        raise CannotScaffold(
            f"{name!r} is not a valid name for a forecast: use lower-case letters, digits and _, a letter first, "
            f"and none of {', '.join(declaration.OWN_FOLDERS)}"
        )
    folder, data = defs / name, settings.data_folder() / name
    for taken in (folder,) if with_data else (folder, data):
        if taken.is_dir() and any(taken.iterdir()):
            raise CannotScaffold(f"{taken} is there already; choose another name, or delete it")
    return folder, data


def schema_beside(folder: Path) -> str:
    """Where the schema is, as an editor finds it from a declaration in a folder.

    The YAML language server reads to the first blank and decodes nothing but a `file:` address, so a path
    with a blank in it is written as one.
    """
    path = Path(os.path.relpath(declaration.SCHEMA, folder)).as_posix()
    return declaration.SCHEMA.resolve().as_uri() if re.search(r"\s", path) else path


def example_rows() -> str:
    """The example's data: a trip takes 2.5 minutes per km, half as long again at rush hour, and some chance."""
    draw = random.Random(7)  # example data, the same every time  # nosec B311
    lines = ["trip_id,started_at,distance,rush_hour,duration"]
    for trip in range(1, ROWS + 1):
        distance, rush = round(draw.uniform(1, 40), 1), int(draw.random() < 0.3)
        duration = 8 + 2.5 * distance * (1.5 if rush else 1.0) + draw.gauss(0, 6)
        lines.append(
            f"{trip},2024-{1 + trip % 12:02}-{1 + trip % 28:02} 0{7 + rush}:30:00,{distance},{rush},{max(1, duration):.1f}"
        )
    return "\n".join(lines) + "\n"
