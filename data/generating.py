"""What the generators beside this file share: arguments, randomness, text, files and the command line.

A generator puts this folder on the path before it imports from here, as it is run as a script and loaded by its
path, from any folder. Only NumPy is needed.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Rows = dict[str, NDArray[Any]]
"""Columns of equal length by name."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class ArgumentOutOfRange(ValueError):
    """An argument that the law has no meaning for."""


def require(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise ArgumentOutOfRange(f"{name} is {value}; give a value from {lowest} to {highest}")


def stream(seed: int, *part: int) -> np.random.Generator:
    """Randomness of one part of the files, from a child of the seed.

    Draw by `random()` alone: on PCG64 it is the plainest of NumPy's streams and the least likely to change with a
    version of NumPy. A seed should mean the same bytes everywhere, and a test compares them.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=part)))


def chunks(rows: int, size: int, seed: int) -> Iterator[tuple[int, int, np.random.Generator]]:
    """Number of the first row, from 1, number of rows and randomness of each chunk of at most `size` rows."""
    for chunk, start in enumerate(range(0, rows, size)):
        yield start + 1, min(size, rows - start), stream(seed, chunk)


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Standard normal variables (Box and Muller), as `random()` is all that is drawn by."""
    radius = np.sqrt(-2 * np.log1p(-rng.random(shape)))
    return radius * np.cos(2 * np.pi * rng.random(shape))


def times(start: np.datetime64, passed: Integers) -> list[str]:
    """Text of the times that are so many units of `start`, seconds or milliseconds, after it."""
    return [text.replace("T", " ") for text in np.datetime_as_string(start + passed).tolist()]


def lines(columns: Sequence[Sequence[str]]) -> bytes:
    return "".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode("ascii")


@contextmanager
def replacing(
    folder: str | os.PathLike[str], tables: Mapping[str, Sequence[str]]
) -> Iterator[Sequence[BinaryIO]]:
    """Files of those names that begin with a line of their columns, to write rows to.

    They are written beside their places and take them when all are complete, and only if nothing is raised: a
    reader never meets half of one.
    """
    paths = [Path(folder) / name for name in tables]
    partials = [path.with_name(f".{path.name}.{os.getpid()}.partial") for path in paths]
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(partial.open("wb")) for partial in partials]
            for file, columns in zip(files, tables.values(), strict=True):
                file.write(lines([[column] for column in columns]))
            yield files
        for partial, path in zip(partials, paths, strict=True):
            partial.replace(path)
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


def command(generate: Callable[..., tuple[Path, ...]], description: str, **meanings: str) -> None:
    """Run `generate` as a command: `--out` is its folder, and each of its other arguments an option."""
    parser = argparse.ArgumentParser(description=description)
    _, *options = signature(generate).parameters.values()
    for option in options:
        meaning = f"{meanings[option.name]} (default %(default)s)"
        parser.add_argument(
            f"--{option.name}", type=type(option.default), default=option.default, help=meaning
        )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to, made if missing")
    given = vars(parser.parse_args())
    try:
        paths = generate(given.pop("out"), **given)
    except ArgumentOutOfRange as error:
        parser.error(str(error))
    for path in paths:
        print(f"{path}: {path.stat().st_size:,} bytes")
