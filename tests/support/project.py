"""The project as it lies here, and copies of it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy(to: Path, *parts: str) -> None:
    """Copy files and folders of the project into a folder, without what the interpreter keeps beside them."""
    for part in parts:
        target = to / part
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / part, target)
