"""Reasons: how far each input moves a prediction away from that of a typical entity.

Interventional Shapley values over the declared inputs (Shapley 1953; Štrumbelj & Kononenko 2014,
doi:10.1007/s10115-013-0679-x). A coalition of inputs is worth the mean prediction over the bundle's
background rows in which these inputs have the entity's values; an input's amount is what it adds to a
coalition, averaged over all orders of joining. For up to ten inputs all coalitions are enumerated and
the amounts are exact. For more, random orders are drawn, each with its reverse (Castro et al. 2009,
doi:10.1016/j.cor.2008.04.004), and each amount has its standard error. Where too few orders can be scored over
all background rows, each row has orders of its own. Either way amounts add up to prediction - baseline, and what
is scored has the same bound. Times that a feature compares join together. Inputs that the champion does not read take no part and get 0.

Mixing an entity's values with those of others makes combinations that may not occur together, a high
price beside a low recommendation: the amounts say what the model does, not what a change would cause.
"""

from collections.abc import Callable, Sequence
from functools import cache
from math import factorial
from typing import NamedTuple

import msgspec
import numpy as np

from vroom_api.contract import InputField, Manifest

EXACT = 10  # inputs; 2^10 coalitions × 64 background rows are 65,536 rows to score
MAX_ROWS = 2**16  # to score for one explanation that is not exact
MIN_PAIRS = 8  # of orders, for a standard error that means something
MIN_OWN_PAIRS = 2  # of orders for each background row: one alone has no spread
MIN_TYPICAL = 32  # background rows that stand for all, where there are too many inputs for orders from each
Values = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Coalitions, bool (n, players), and background rows (rows, inputs) → predictions of their mixtures, (n, rows)."""
Worth = Callable[[np.ndarray], np.ndarray]
Score = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Inputs (rows, inputs), float64 → predictions (rows,) and features (rows, features)."""


class NotExplainable(Exception):
    """Why a champion's predictions cannot be explained."""


class Reason(msgspec.Struct, frozen=True):
    """What one input contributes, in units of the target, or several times together.

    input: its name, or their names and `, ` between them; so are their values.
    """

    input: str
    value: float | str | None
    amount: float
    error: float  # standard error of the amount; 0 where it is exact
    sentence: str


class Approximation(msgspec.Struct, frozen=True):
    """How amounts were estimated that are too many to be computed exactly."""

    orders: int  # in which inputs joined, drawn at random; the same every time
    error: float  # the largest standard error of an amount


class Explanation(msgspec.Struct, frozen=True):
    """baseline + Σ amounts = prediction. Reasons come with the largest amount first."""

    baseline: float  # mean prediction over the background rows
    prediction: float
    reasons: list[Reason]
    approximation: Approximation | msgspec.UnsetType = msgspec.UNSET  # left out where amounts are exact


class Amounts(NamedTuple):
    """Shapley values of the players, their standard errors, and what the empty and full coalition are worth."""

    amounts: np.ndarray
    errors: np.ndarray
    baseline: float
    prediction: float
    orders: int = 0  # that were drawn; 0 where amounts are exact


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
    players = players_of(manifest)
    columns = [index for group in players for index in group]
    owner = [player for player, group in enumerate(players) for _ in group]
    background = np.asarray(manifest.background, dtype=np.float64)

    def values(members: np.ndarray, typical: np.ndarray) -> np.ndarray:
        """Predictions of typical rows in which the inputs of a coalition are taken from the row."""
        mixed = np.repeat(typical[None], len(members), axis=0)
        mixed[:, :, columns] = np.where(members[:, None, owner], row[columns], typical[:, columns])
        predictions, _ = score(mixed.reshape(-1, len(row)))
        if not np.isfinite(predictions).all():
            raise NotExplainable(
                f"a mixture of this {manifest.entity} and typical ones has no finite prediction, "
                "so the effects of its inputs cannot be separated"
            )
        return predictions.reshape(len(members), -1)

    found = shapley(values, background, len(players))
    if found is None:
        raise NotExplainable(
            f"the champion of {manifest.forecast} reads {len(players)} inputs, too many for reasons"
        )
    reasons = [
        _reason(manifest, group, row, float(amount), float(error))
        for group, amount, error in zip(players, found.amounts, found.errors, strict=True)
    ]
    reasons += [
        _reason(manifest, [index], row, 0.0, 0.0) for index in range(len(row)) if index not in set(columns)
    ]
    return Explanation(
        baseline=found.baseline,
        prediction=found.prediction,
        reasons=sorted(reasons, key=lambda reason: -abs(reason.amount)),
        approximation=Approximation(found.orders, float(found.errors.max()))
        if found.orders
        else msgspec.UNSET,
    )


def _reason(manifest: Manifest, group: Sequence[int], row: np.ndarray, amount: float, error: float) -> Reason:
    fields = [manifest.inputs[index] for index in group]
    values = [row[index] for index in group]
    together = ", ".join(field.formatted(float(value)) for field, value in zip(fields, values, strict=True))
    return Reason(
        ", ".join(field.name for field in fields),
        fields[0].decoded(float(values[0])) if len(fields) == 1 else together,
        amount,
        error,
        sentence(manifest, fields, values, amount),
    )


def rows_to_score(manifest: Manifest) -> int:
    """How many rows are scored for one explanation, at most."""
    players = len(players_of(manifest))
    return min(2**players * len(manifest.background or ()), MAX_ROWS) if players <= EXACT else MAX_ROWS


def shapley(values: Values, background: np.ndarray, players: int) -> Amounts | None:
    """The amounts, in the way that suits the number of players; None where they are too many."""

    def worth(members: np.ndarray) -> np.ndarray:
        return values(members, background).mean(axis=1)

    if players <= EXACT:
        return enumerated(worth, players)
    pairs = MAX_ROWS // (2 * (players - 1) * len(background))
    if pairs >= MIN_PAIRS:
        return sampled(worth, players, pairs)
    walks = MAX_ROWS // (2 * (players - 1))  # there and back, from any background row
    typical = thinned(background, walks // MIN_OWN_PAIRS)
    if len(typical) < min(MIN_TYPICAL, len(background)):
        return None
    return walked(values, typical, players, walks // len(typical))


def thinned(background: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, spread evenly: they are in the order of their predictions, and the mean hardly moves."""
    if most < 1:
        return background[:0]
    step = -(-len(background) // most)
    return background[step // 2 :: step]


def enumerated(worth: Worth, players: int) -> Amounts:
    """Exact values, from all 2^players coalitions."""
    members, weights = coalitions(players)
    worths = worth(members)
    return Amounts(weights @ worths, np.zeros(players), float(worths[0]), float(worths[-1]))


def sampled(worth: Worth, players: int, pairs: int) -> Amounts:
    """Values from random orders of joining and their reverses; the same orders every time."""
    position = positions(np.random.default_rng(0), players, pairs)
    ends = np.array([[False] * players, [True] * players])
    worths = worth(np.concatenate([ends, inner_coalitions(position)]))
    empty, full = worths[:2]
    paired = gains(position, empty, worths[2:], full)
    errors = paired.std(axis=0, ddof=1) / np.sqrt(pairs)
    return Amounts(paired.mean(axis=0), errors, float(empty), float(full), 2 * pairs)


def walked(values: Values, background: np.ndarray, players: int, pairs: int) -> Amounts:
    """Values from orders that are drawn for each background row anew.

    An order from one row to the entity adds up to the difference of their predictions, and each row has as many orders:
    so amounts add up as ever. Of the same number of mixtures, orders that rows do not share tell more (Štrumbelj & Kononenko
    draw a row with each order; here the rows are the strata of a stratified sample).

    Args:
        pairs: of orders for each background row, at least 2.
    """
    rng = np.random.default_rng(0)
    ends = np.array([[False] * players, [True] * players])
    empty, full = values(ends, background)
    amounts, variances = np.zeros((2, players))
    for number in range(len(background)):  # one row at a time, for the memory
        position = positions(rng, players, pairs)
        inner = values(inner_coalitions(position), background[number : number + 1])[:, 0]
        paired = gains(position, empty[number], inner, full[number])
        amounts += paired.mean(axis=0) / len(background)
        variances += paired.var(axis=0, ddof=1) / pairs / len(background) ** 2
    return Amounts(
        amounts, np.sqrt(variances), float(empty.mean()), float(full.mean()), 2 * pairs * len(background)
    )


def positions(rng: np.random.Generator, players: int, pairs: int) -> np.ndarray:
    """Of each player in random orders of joining, each followed by its reverse: (2 · pairs, players)."""
    orders = np.array([rng.permutation(players) for _ in range(pairs)])
    orders = np.stack([orders, orders[:, ::-1]], axis=1).reshape(2 * pairs, players)
    return np.argsort(orders, axis=1)


def inner_coalitions(position: np.ndarray) -> np.ndarray:
    """Order by order, the coalitions after 1 … players - 1 have joined: bool (orders · (players - 1), players)."""
    players = position.shape[1]
    inner = position[:, None, :] < np.arange(1, players)[:, None]
    return inner.reshape(-1, players)


def gains(position: np.ndarray, empty: float, inner: np.ndarray, full: float) -> np.ndarray:
    """What each player adds where it joins, the mean of an order and its reverse: (pairs, players).

    Args:
        inner: worths of `inner_coalitions`.
    """
    orders, players = position.shape
    along = np.empty((orders, players + 1))
    along[:, 0], along[:, 1:-1], along[:, -1] = empty, inner.reshape(orders, -1), full
    joined = np.take_along_axis(np.diff(along, axis=1), position, axis=1)
    means: np.ndarray = joined.reshape(-1, 2, players).mean(axis=1)
    return means


def read_inputs(manifest: Manifest) -> list[int]:
    """Indices of the inputs that the champion reads through its features; all where that is not known."""
    read = [field.inputs for field in manifest.features if field.name in manifest.recipe.features]
    if not read or not all(read):
        return list(range(len(manifest.inputs)))
    names = {name for inputs in read for name in inputs}
    return [index for index, field in enumerate(manifest.inputs) if field.name in names]


def players_of(manifest: Manifest) -> list[list[int]]:
    """Indices of the inputs that the champion reads, each alone; times that a feature compares are one player.

    The time of one row and the time of another are years apart, and what lies between them means nothing.
    """
    read = read_inputs(manifest)
    times = [index for index in read if manifest.inputs[index].type == "time"]
    groups = [[index] for index in read if index not in times]
    compared: list[list[int]] = []
    for index in times:
        name = manifest.inputs[index].name
        together = {other for field in manifest.features if name in field.inputs for other in field.inputs}
        beside = [group for group in compared if any(manifest.inputs[one].name in together for one in group)]
        compared = [group for group in compared if group not in beside]
        compared.append(sorted([index, *(one for group in beside for one in group)]))
    return sorted(groups + compared)


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


def sentence(manifest: Manifest, fields: Sequence[InputField], values: Sequence[float], amount: float) -> str:
    """A reason as a sentence, from the texts of the declaration."""
    inputs = " and ".join(_named(field, value) for field, value in zip(fields, values, strict=True))
    effect = _effect(manifest, amount) if abs(amount) > 1e-9 else "no difference"
    return f"{inputs}: {effect} compared with a typical {manifest.entity}"


def _named(field: InputField, value: float) -> str:
    unit = f" {field.unit}" if field.unit and field.unit != "flag" else ""
    meaning = f" ({field.description})" if field.description else ""
    return f"{field.name} {field.formatted(float(value))}{unit}{meaning}"


def _effect(manifest: Manifest, amount: float) -> str:
    if manifest.kind.is_probability:
        return f"{100 * amount:+.2g} percentage points"
    digits = f"{amount:+.1f}" if abs(amount) >= 0.05 else f"{amount:+.1g}"
    return f"{digits} {manifest.unit}"
