"""What the commands of `python -m vroom_assets` take, and the help of each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from vroom_api.contract import FORECAST_NAME, Kind


class BadArguments(Exception):
    """What cannot be asked for; the message says how it is written."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise BadArguments(f"{message}; use {usage}")


def parser(description: str) -> argparse.ArgumentParser:
    """The parser of all commands; `command` is None where none is given.

    Its `parse_args` raises BadArguments for what it does not know, and exits with 0 after `--help`.
    """
    whole = _Parser(
        prog="python -m vroom_assets",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = whole.add_subparsers(dest="command", metavar="command", parser_class=_Parser)

    def command(name: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=description, description=description, allow_abbrev=False)

    command("materialize", "Everything from the sources to the champion of VROOM_FORECAST, once, and stop.")
    _arguments_of_new(
        command("new", "Write a new forecast: a small working example, or one of a column of a CSV.")
    )
    check = command("check", "Print whether declarations are valid; exits with 1 if one is not.")
    check.add_argument("names", nargs="*", metavar="name", help="of a forecast; by default all")
    check.add_argument("--data", action="store_true", help="also check every row of the CSVs")
    explain = command("explain", "Print what was learnt about a forecast, one page, from what is stored.")
    explain.epilog = (
        "Nothing is trained and nothing stored is changed; exits with 1 where there is no champion yet."
    )
    explain.add_argument("name", metavar="<name>", help="of the forecast")
    explain.add_argument(
        "--out",
        type=Path,
        metavar="<file>",
        help="write the page there instead: Markdown, or HTML where the name ends in .html",
    )
    _arguments_of_score(
        command("score", "Predict all entities of a forecast, or the rows of a file, into a Parquet file.")
    )
    _arguments_of_replay(
        command(
            "replay", "Answer the latest recorded requests by another version, and print what would change."
        )
    )
    _arguments_of_rebuild(
        command(
            "rebuild", "Train a version again from its snapshots, and print whether it is the same model."
        )
    )
    retire = command("retire", "End the champion of a forecast whose declaration was taken away.")
    retire.usage = "%(prog)s <name> <reason>"
    retire.add_argument("name", metavar="<name>", help="of the forecast")
    retire.add_argument("reason", nargs="+", metavar="<reason>", help="why, for its record")
    rename = command(
        "rename", "Give a forecast another name, with its champion, record, ledger and registry."
    )
    rename.epilog = "Nothing may run in the home. Where it is interrupted, the same command goes on."
    rename.add_argument("name", metavar="<old>", help="of the forecast")
    rename.add_argument("present", metavar="<new>", help="its new name: lower-case letters, digits and _")
    command("schema", "Print the JSON schema of defs.yaml, for editors.")
    return whole


def _arguments_of_score(score: argparse.ArgumentParser) -> None:
    score.epilog = (
        "Each row has the numbers that POST /predict answers. A row of a file that has no answer stops all; an entity "
        "that has none is written with the reason."
    )
    score.add_argument("name", metavar="<name>", help="of the forecast")
    score.add_argument(
        "--input",
        type=Path,
        metavar="<file>",
        help="a CSV or a .parquet file with a column for each input, and entity_id where it has one; by default the stored "
        "inputs of all entities",
    )
    score.add_argument(
        "--output",
        type=Path,
        metavar="<file>",
        help="the Parquet file to write; by default predictions.parquet in the forecast's folder of the home",
    )
    score.add_argument(
        "--version", type=int, metavar="<number>", help="that served before; by default the one that serves"
    )


def _arguments_of_replay(replay: argparse.ArgumentParser) -> None:
    replay.epilog = (
        "A version that only is registered in MLflow will do, e.g. a challenger that was held. Nothing is recorded, and "
        "nothing that serves is changed."
    )
    replay.add_argument("name", metavar="<name>", help="of the forecast")
    replay.add_argument(
        "--version", type=_count, metavar="<number>", help="that answers; by default the one that serves"
    )
    replay.add_argument(
        "--last",
        type=_count,
        default=1000,
        metavar="<requests>",
        help="how many requests, the newest; by default 1000",
    )
    replay.add_argument("--json", action="store_true", help="print one object of JSON instead")


def _arguments_of_rebuild(rebuild: argparse.ArgumentParser) -> None:
    rebuild.epilog = (
        "Exits with 0 where the model has the same bytes or its predictions differ by at most 1e-9, with 1 where not, and "
        "with 2 where something that it needs is gone."
    )
    rebuild.add_argument("name", metavar="<name>", help="of the forecast")
    rebuild.add_argument(
        "--version", type=_count, metavar="<number>", help="to train again; by default the one that serves"
    )
    rebuild.add_argument(
        "--into",
        type=Path,
        metavar="<folder>",
        help="an empty folder, where model and warehouse stay; by default they are removed",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _arguments_of_new(new: argparse.ArgumentParser) -> None:
    new.epilog = "Nothing that is there is changed; every guess becomes a comment in the declaration."
    new.add_argument("name", metavar="<name>", help="of the forecast: lower-case letters, digits and _")
    new.add_argument(
        "--from",
        dest="files",
        nargs="+",
        type=Path,
        metavar="<file>",
        help="a CSV or a Parquet file, or several that follow each other; copied into the data folder, unless in that of "
        "the forecast already",
    )
    new.add_argument(
        "--target",
        metavar="<column>",
        help="the column to forecast, as the file calls it; of a text of several values `status=paid`, one against the others",
    )
    new.add_argument(
        "--kind",
        choices=[str(one) for one in Kind],
        help="of the target; by default what its values look like",
    )
    new.add_argument(
        "--ahead",
        type=int,
        metavar="<steps>",
        help="forecast the target as a series, so many steps ahead, from its values before",
    )


def parsed(description: str, arguments: list[str]) -> argparse.Namespace:
    """The arguments of a command line.

    Raises:
        BadArguments: it asks for nothing that there is.
    """
    whole = parser(description)
    given = whole.parse_args(arguments)
    if given.command == "new" and (given.files is None) != (given.target is None):
        raise BadArguments("`new` takes both of --from <file> and --target <column>, or neither")
    if given.command == "new" and given.files is None and given.kind is not None:
        raise BadArguments("--kind is of the target of a file; name them by --from <file> --target <column>")
    if given.command == "new" and given.ahead is not None and (given.files is None or given.ahead < 1):
        raise BadArguments(
            "--ahead is of a series in a file, 1 or more steps; name it by --from <file> --target <column>"
        )
    if given.command == "explain" and not FORECAST_NAME.fullmatch(given.name):
        raise BadArguments(f"{given.name!r} is not the name of a forecast; use explain <name> [--out <file>]")
    if given.command == "score" and not FORECAST_NAME.fullmatch(given.name):
        raise BadArguments(f"{given.name!r} is not the name of a forecast; use score <name> [--input <file>]")
    if given.command in ("replay", "rebuild") and not FORECAST_NAME.fullmatch(given.name):
        raise BadArguments(
            f"{given.name!r} is not the name of a forecast; use {given.command} <name> [--version <number>]"
        )
    if given.command == "retire" and not FORECAST_NAME.fullmatch(given.name):
        raise BadArguments(f"{given.name!r} is not the name of a forecast; use retire <name> <reason>")
    return given
