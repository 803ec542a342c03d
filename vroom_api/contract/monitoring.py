"""What a champion's live predictions and outcomes are compared with: how its training rows were distributed.

All of it is counted: rows by cell. A *unit* is a row, or a group of rows that are not independent (rows of one circuit, of one
market): then each row counts 1 / rows of its group. Errors are those of out-of-fold predictions of the chosen recipe.
"""

from vroom_api.contract.struct import ContractStruct


class FeatureReference(ContractStruct, frozen=True):
    """How a feature was distributed in training. Its bins are those of `FeatureField.edges`."""

    name: str
    units: list[
        float
    ]  # by bin, then those without a value, then those whose value no other unit had or bounded
    levels: list[float] = []  # every value, ascending, of a feature that has few; empty for others
    ordered: bool = True  # whether larger values mean more; not of a category
    losses: list[float] = []  # mean loss by bin, out of fold; as many as there are bins


class PredictionReference(ContractStruct, frozen=True):
    """How out-of-fold predictions were distributed, and how large their losses were, in bins of the prediction."""

    edges: list[float]  # inner, ascending; a value on an edge belongs above it
    units: list[float]
    loss_mean: list[float]  # of clipped losses
    loss_sd: list[float]  # 0 where there are fewer than two


class SegmentReference(ContractStruct, frozen=True):
    """The losses of the rows with one value of a tag."""

    tag: str
    value: str
    loss: list[float]  # units by cell, as of all rows


class MonitoringReference(ContractStruct, frozen=True):
    """What is compared with. Cells of losses and residuals are points, evenly spaced, between which a value is divided.

    Losses are clipped at `bound`, and lie in [0, bound]; residuals (outcome - prediction) are clipped to [-bound, bound].
    """

    units: float  # of all training rows
    scored: float  # of those with an out-of-fold prediction
    metric: str  # what the mean of losses is called, e.g. mae
    error: float  # mean of the unclipped losses
    bound: float
    loss: list[float]  # scored units by cell
    residual: list[float]
    features: list[FeatureReference]
    prediction: PredictionReference
    level: float  # of the intervals that misses are of
    misses: list[float] = []  # scored units below, inside and above the interval; empty for probabilities
    pit: list[float] = []  # by tenth of the probability integral transform; empty for probabilities
    reliability: list[list[float]] = []  # of probabilities: residuals by cell, in each bin of the prediction
    segments: list[SegmentReference] = []
    group: str = ""  # the column whose values make units of rows; "" where rows are independent
