"""Reasons: how far each input moves a prediction away from that of a typical entity.

Interventional Shapley values over the declared inputs (Shapley 1953; Štrumbelj & Kononenko 2014,
doi:10.1007/s10115-013-0679-x). A coalition of inputs is worth the mean prediction over the bundle's
background rows in which these inputs have the entity's values; an input's amount is what it adds to a
coalition, averaged over all orders of joining. For up to ten inputs all coalitions are enumerated and
the amounts are exact; for more, random orders are drawn, each with its reverse (Castro et al. 2009,
doi:10.1016/j.cor.2008.04.004), and each amount has its standard error. Either way they add up to
prediction - baseline and are scored in one call. Inputs that the champion does not read take no part and
get 0.

Mixing an entity's values with those of others makes combinations that may not occur together, a high
price beside a low recommendation: the amounts say what the model does, not what a change would cause.
"""

from collections.abc import Callable
from functools import cache
from math import factorial
from typing import NamedTuple

import msgspec
import numpy as np

from vroom_api.contract import InputField, Manifest

EXACT = 10  # inputs; 2^10 coalitions × 64 background rows are 65,536 rows to score
MAX_ROWS = 2**16  # to score for one explanation that is not exact
MIN_PAIRS = 8  # of orders, for a standard error that means something
Worth = Callable[[np.ndarray], np.ndarray]
Score = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Inputs (rows, inputs), float64 → predictions (rows,) and features (rows, features)."""


class NotExplainable(Exception):
    """Why a champion's predictions cannot be explained."""


class Reason(msgspec.Struct, frozen=True):
    """What one input contributes, in units of the target."""

    input: str
    value: float | str | None
    amount: float
    error: float  # standard error of the amount; 0 where it is exact
    sentence: str


class Explanation(msgspec.Struct, frozen=True):
    """baseline + Σ amounts = prediction. Reasons come with the largest amount first."""

    baseline: float  # mean prediction over the background rows
    prediction: float
    reasons: list[Reason]


class Amounts(NamedTuple):
    """Shapley values of the players, their standard errors, and what the empty and full coalition are worth."""

    amounts: np.ndarray
    errors: np.ndarray
    baseline: float
    prediction: float


def explain(score: Score, manifest: Manifest, row: np.ndarray) -> Explanation:
    """The Shapley values of one row.

    Args:
        row: shape (inputs,), in the manifest's order.

    Raises:
        NotExplainable: the bundle has no background rows, the champion reads too many inputs, or a mixture
            of the row and the background has no finite prediction.
    """
    if not manifest.background:
        raise NotExplainable(
            f"version {manifest.version} of {manifest.forecast} has no background rows to compare with; "
            "train it again"
        )
    players = read_inputs(manifest)
    background = np.asarray(manifest.background, dtype=np.float64)

    def worth(members: np.ndarray) -> np.ndarray:
        """Of coalitions, bool (n, players): the mean prediction with their inputs taken from the row."""
        mixed = np.repeat(background[None], len(members), axis=0)
        mixed[:, :, players] = np.where(members[:, None, :], row[players], background[:, players])
        predictions, _ = score(mixed.reshape(-1, len(row)))
        worths = predictions.reshape(len(members), -1).mean(axis=1)
        if not np.isfinite(worths).all():
            raise NotExplainable(
                f"a mixture of this {manifest.entity} and typical ones has no finite prediction, "
                "so the effects of its inputs cannot be separated"
            )
        return worths

    if len(players) <= EXACT:
        found = enumerated(worth, len(players))
    else:
        pairs = MAX_ROWS // (2 * (len(players) - 1) * len(background))
        if pairs < MIN_PAIRS:
            raise NotExplainable(
                f"the champion of {manifest.forecast} reads {len(players)} inputs, too many for reasons"
            )
        found = sampled(worth, len(players), pairs)
    amounts, errors = np.zeros((2, len(row)))
    amounts[players], errors[players] = found.amounts, found.errors
    reasons = [
        Reason(
            field.name,
            field.decoded(float(value)),
            float(amount),
            float(error),
            sentence(manifest, field, value, amount),
        )
        for field, value, amount, error in zip(manifest.inputs, row, amounts, errors, strict=True)
    ]
    return Explanation(
        baseline=found.baseline,
        prediction=found.prediction,
        reasons=sorted(reasons, key=lambda reason: -abs(reason.amount)),
    )


def enumerated(worth: Worth, players: int) -> Amounts:
    """Exact values, from all 2^players coalitions."""
    members, weights = coalitions(players)
    worths = worth(members)
    return Amounts(weights @ worths, np.zeros(players), float(worths[0]), float(worths[-1]))


def sampled(worth: Worth, players: int, pairs: int) -> Amounts:
    """Values from random orders of joining and their reverses; the same orders every time."""
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(players) for _ in range(pairs)])
    orders = np.stack([orders, orders[:, ::-1]], axis=1).reshape(2 * pairs, players)
    position = np.argsort(orders, axis=1)  # of each player in its order
    inner = (
        position[:, None, :] < np.arange(1, players)[:, None]
    )  # coalitions after 1 … players - 1 have joined
    ends = np.array([[False] * players, [True] * players])
    worths = worth(np.concatenate([ends, inner.reshape(-1, players)]))
    empty, full = worths[:2]
    along = np.empty((2 * pairs, players + 1))
    along[:, 0], along[:, 1:-1], along[:, -1] = empty, worths[2:].reshape(2 * pairs, -1), full
    joined = np.take_along_axis(np.diff(along, axis=1), position, axis=1)
    paired = joined.reshape(pairs, 2, players).mean(axis=1)
    errors = paired.std(axis=0, ddof=1) / np.sqrt(pairs)
    return Amounts(paired.mean(axis=0), errors, float(empty), float(full))


def read_inputs(manifest: Manifest) -> list[int]:
    """Indices of the inputs that the champion reads through its features; all where that is not known."""
    read = [field.inputs for field in manifest.features if field.name in manifest.recipe.features]
    if not read or not all(read):
        return list(range(len(manifest.inputs)))
    names = {name for inputs in read for name in inputs}
    return [index for index, field in enumerate(manifest.inputs) if field.name in names]


@cache
def coalitions(players: int) -> tuple[np.ndarray, np.ndarray]:
    """All coalitions, from the empty one to the full one, and the weight of each in each player's value.

    Returns:
        members, bool (2^players, players), and weights (players, 2^players): |S|! (k - |S| - 1)! / k! for
        joining a coalition S, negative where the player is not in it.
    """
    members = (np.arange(2**players)[:, None] >> np.arange(players)) & 1 == 1
    size = members.sum(axis=1)
    joining = np.array(
        [factorial(s) * factorial(players - s - 1) / factorial(players) for s in range(players)] + [0.0]
    )
    weights = np.where(members, joining[size - 1][:, None], -joining[size][:, None]).T
    return members, weights


def sentence(manifest: Manifest, field: InputField, value: float, amount: float) -> str:
    """A reason as a sentence, from the texts of the declaration."""
    unit = f" {field.unit}" if field.unit and field.unit != "flag" else ""
    meaning = f" ({field.description})" if field.description else ""
    effect = _effect(manifest, amount) if abs(amount) > 1e-9 else "no difference"
    return f"{field.name} {field.formatted(float(value))}{unit}{meaning}: {effect} compared with a typical {manifest.entity}"


def _effect(manifest: Manifest, amount: float) -> str:
    if manifest.kind.is_probability:
        return f"{100 * amount:+.2g} percentage points"
    digits = f"{amount:+.1f}" if abs(amount) >= 0.05 else f"{amount:+.1g}"
    return f"{digits} {manifest.unit}"
