"""Does the verdict on a version that is tried call better or worse what is, and only that?

    python tests/benchmarks/split.py [--months 200] [--days 30] [--rows 200] [--kinds same trainings worse better]

Draws data from the generator beside the shipped ones, as `rollback.py`. Two versions answer the requests of a month; the
outcomes of a day arrive the day after, and the verdict is read every day, as the monitoring makes it. Whoever has answered a
request, both versions' losses on it are known, so a share does not matter to the verdict; 90/10 is drawn as the service does.

`same law` is an A/A split: both versions are one model with noise of the same law of their own, so that neither is better.
`two trainings` are two of one recipe on two draws; which is better, and by how much, is measured on 20,000 fresh rows. Worse
and better ones are as in `rollback.py`. A verdict is false where it is `worse` of a version that is not worse by more than is
tolerated, or `better` of one that is not. Exits with 1 when more than 5 % of the months without a difference end with one.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tests.benchmarks.rollback import (
    LOSS,
    TYPICAL,
    Trainings,
    blunt,
    draw,
    high,
    noisy,
    pair,
    trainings,
)
from vroom_api.contract import Trial, TrialRole
from vroom_api.contract.trials import TrialVerdict
from vroom_api.predictions.choice import belongs, subject_of
from vroom_assets.monitoring.shadow import largest_gain
from vroom_assets.monitoring.trial import Losses, bets, tolerated_loss, verdict_on
from vroom_assets.spec import Contest, Kind, Monitoring

Version = Callable[[pd.DataFrame], np.ndarray]
NOISE = 0.1  # relative, of the versions of one law
SHARE = 0.1
SAME, TRAININGS = "same law", "two trainings"


@dataclass(frozen=True)
class Versions:
    """The champion, the second version, and by which share the error of the second one is larger, truly."""

    champion: Version
    second: Version
    truly: float
    reference_loss: float


@dataclass(frozen=True)
class Month:
    """verdict: the first one that was given, None where none was. day: of it. share: of the requests that the second answered."""

    verdict: TrialVerdict | None
    day: int | None
    truly: float
    share: float

    def is_false(self, margin: float) -> bool:
        if self.verdict is TrialVerdict.WORSE:
            return self.truly <= margin
        return self.verdict is TrialVerdict.BETTER and self.truly >= 0


def of_one_law(one: Trainings) -> Versions:
    """Two versions that differ in noise that has the same law: neither is better."""

    def with_noise(number: int) -> Version:
        return lambda rows: noisy(
            one.before.predict(rows), NOISE, np.random.default_rng([one.number, number, len(rows)])
        )

    return Versions(with_noise(1), with_noise(2), 0.0, one.error_of(one.first))


def of_trainings(one: Trainings) -> Versions:
    made = pair(one, 0.0, None)
    return Versions(one.before.predict, made.successor, made.truly, made.reference_loss)


def different(one: Trainings, by: float, distortion: Callable[..., np.ndarray], *, better: bool) -> Versions:
    """A second version that is worse by a share, or a champion that the second one is better than by it."""
    made = pair(one, by, distortion)
    if not better:
        return Versions(one.before.predict, made.successor, made.truly, made.reference_loss)
    truly = 1 / (1 + made.truly) - 1
    return Versions(made.successor, one.before.predict, truly, made.reference_loss * (1 + made.truly))


def month(made: Versions, number: int, days: int, rows: int) -> Month:
    """What becomes of a trial of so many days."""
    rules, contest = Monitoring(), Contest()
    rng = np.random.default_rng([number, 3])
    frame, outcome = draw(days * rows, rng)
    champion, second = made.champion(frame), made.second(frame)
    typical, _ = draw(TYPICAL, rng)
    losses = Losses(
        LOSS(outcome, champion),
        LOSS(outcome, second),
        largest_gain(Kind.COUNT, second, champion),
        float(largest_gain(Kind.COUNT, made.second(typical), made.champion(typical)).max()),
        tolerated_loss(contest, made.reference_loss),
    )
    worse, better = (np.split(values, days) for values in bets(losses))
    trial = Trial(version=2, manifest_sha256="", role=TrialRole.SPLIT, share=SHARE, since=str(number), by="")
    share = np.mean([belongs("benchmark", trial, subject_of(str(at), ())) for at in range(days * rows)])
    for day in range(1, days + 1):
        upto = slice(0, day * rows)
        known = Losses(
            losses.champion[upto], losses.second[upto], losses.reach[upto], losses.typical, losses.tolerated
        )
        found = verdict_on("", known, worse[:day], better[:day], rules)
        if found.verdict is not TrialVerdict.OPEN:
            return Month(found.verdict, day, made.truly, float(share))
    return Month(None, None, made.truly, float(share))


def line(name: str, found: list[Month], margin: float) -> dict[str, str]:
    def share(of: TrialVerdict) -> str:
        return f"{np.mean([one.verdict is of for one in found]):.1%}"

    days = [one.day for one in found if one.day is not None]
    return {
        "second version": name,
        "truly": f"{np.mean([one.truly for one in found]):+.1%}",
        "months": str(len(found)),
        "worse": share(TrialVerdict.WORSE),
        "better": share(TrialVerdict.BETTER),
        "false": f"{np.mean([one.is_false(margin) for one in found]):.1%}",
        "median day": f"{np.median(days):.0f}" if days else "",
        "90 % by day": f"{np.quantile(days, 0.9):.0f}" if days else "",
    }


def scenarios(kinds: list[str]) -> dict[str, Callable[[Trainings], Versions]]:
    found: dict[str, Callable[[Trainings], Versions]] = {}
    if "same" in kinds:
        found[SAME] = of_one_law
    if "trainings" in kinds:
        found[TRAININGS] = of_trainings
    for kind in ("worse", "better"):
        for by in (0.05, 0.10) if kind in kinds else ():
            for distortion in (high, blunt, noisy):
                found[f"{distortion.__name__}, {by:.0%} {kind}"] = (
                    lambda one, by=by, how=distortion, kind=kind: different(
                        one, by, how, better=kind == "better"
                    )
                )
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--months", type=int, default=200, help="of equals; of others a quarter each")
    arguments.add_argument("--days", type=int, default=30)
    arguments.add_argument("--rows", type=int, default=200, help="outcomes a day")
    every = ["same", "trainings", "worse", "better"]
    arguments.add_argument("--kinds", nargs="+", choices=every, default=every)
    given = arguments.parse_args()
    began = time.monotonic()
    margin, limit = Contest().margin, Monitoring().false_alarms
    wanted = scenarios(given.kinds)
    found: dict[str, list[Month]] = {name: [] for name in wanted}
    for number in range(given.months):
        one = trainings(number)
        for name, make in wanted.items():
            if name in (SAME, TRAININGS) or number < max(given.months // 4, 1):
                found[name].append(month(make(one), number, given.days, given.rows))
        print(f"\r{number + 1} of {given.months}   ", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    print(pd.DataFrame([line(name, months, margin) for name, months in found.items()]).to_string(index=False))
    shares = [one.share for months in found.values() for one in months]
    print(
        f"{given.days} days of {given.rows} outcomes, {margin:.0%} tolerated; the second version answered "
        f"{np.mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%}) of the entities; {time.monotonic() - began:.0f} s"
    )
    failed = False
    for name in (SAME, TRAININGS):
        if months := found.get(name):
            false = float(np.mean([one.is_false(margin) for one in months]))
            failed |= false > limit
            print(
                f"{'yes' if false <= limit else 'NO '}  {name}: false verdicts {false:.1%} (at most {limit:.0%})"
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
