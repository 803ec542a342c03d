"""Small files, and the declarations that are made of them."""

import random
from pathlib import Path
from typing import Any

from vroom_api.contract import Kind
from vroom_assets import declaration
from vroom_assets.inference import writing
from vroom_assets.spec import ForecastSpec


def inferred(project: Path, content: str | bytes, target: str, kind: Kind | None = None) -> ForecastSpec:
    """The declaration that is made of a file, read as any other."""
    file = project / "given.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    writing.infer(project / "defs", "mine", [file], target, kind)
    spec = declaration.read(project / "defs" / "mine")
    declaration.check_parameters(project / "defs" / "mine", spec)
    return spec


def table(target: list[Any], **columns: list[Any]) -> str:
    names = [*columns, "y"]
    rows = zip(*columns.values(), target, strict=True)
    return "\n".join([";".join(names), *(";".join(map(str, row)) for row in rows)]) + "\n"


def unlike(count: int, seed: int) -> list[float]:
    draw = random.Random(seed)
    return [round(draw.gauss(50, 12), 2) for _ in range(count)]
