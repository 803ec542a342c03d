"""One training, whole: what was declared, what it ran on, what it found, and what is reported of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import msgspec
import pandas as pd

from vroom_api.contract import Calibration, Fallback, Scores
from vroom_assets import plots
from vroom_assets.challenger.manifest import fallback_of
from vroom_assets.challenger.parity import Exported, proving_rows
from vroom_assets.features.table import Dataset
from vroom_assets.spec import ForecastSpec
from vroom_assets.training import summary
from vroom_assets.training.intervals import calibration_of
from vroom_assets.training.metrics import METRIC_SETS, MetricSet
from vroom_assets.training.search import Search


@dataclass(frozen=True)
class Experiment:
    """A search with its inputs, and the graph of the candidate that won it.

    spec: its candidates with the values that were chosen for their parameters. tried: these and the others, as `Tuned` has
    them.

    What MLflow, the manifest and the assets' pages show of it is computed once, when it is first asked for.
    """

    spec: ForecastSpec
    data: Dataset
    search: Search
    exported: Exported
    tried: pd.DataFrame

    @property
    def metric_set(self) -> MetricSet:
        return METRIC_SETS[self.spec.target.kind]

    @cached_property
    def displayed(self) -> Dataset:
        """Rows that stand for all where it takes the model's predictions of many: all of them, or a sample with the extremes."""
        return self.data.take(proving_rows(self.data, self.spec))

    @cached_property
    def calibration(self) -> Calibration:
        return calibration_of(self.search, self.search.chosen, self.data.target, self.metric_set)

    @cached_property
    def fallback(self) -> Fallback | None:
        return fallback_of(self.spec, self.search, self.data, self.metric_set, self.exported)

    @cached_property
    def scores(self) -> Scores:
        fallback = self.fallback
        displayed = self.displayed
        prediction = self.exported.fitted.predict(displayed.features)
        return msgspec.structs.replace(
            summary.scores(
                self.search,
                self.data.target,
                self.metric_set,
                self.spec.gates.reference,
                self.calibration.coverage,
            ),
            train={
                name: metric(displayed.target, prediction) for name, metric in self.metric_set.metrics.items()
            },
            fallback_error=fallback.error if fallback else None,
            fallback_coverage=fallback.calibration.coverage if fallback else {},
        )

    @cached_property
    def fold_means(self) -> pd.DataFrame:
        """Metrics of every candidate and baseline, averaged over the folds, and how far it is `behind` the best, with the
        standard error of that, its `noise`; the best first."""
        means = self.search.fold_metrics.groupby("candidate").mean(numeric_only=True)
        means = means.join(self.search.choice.compared[["behind", "noise"]])
        return means.drop(columns=["repeat", "fold"]).sort_values(self.metric_set.select)

    @cached_property
    def errors_by_tag(self) -> dict[str, pd.DataFrame]:
        """By tag: the nested error of the rows of each of its values."""
        return {
            str(name): summary.error_by(values, self.search, self.data.target, self.metric_set)
            for name, values in self.data.tags.items()
        }

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        """Plots by name, as PNG."""
        found, error = self.search, self.metric_set.error
        figures = {
            "candidates": plots.candidates(found.fold_metrics, error, found.chosen),
            "predicted_and_observed": plots.predicted_and_seen(
                found.predictions(found.chosen), self.data.target[found.predicted], self.spec.target.unit
            ),
            "importances": plots.importances(found.importances, error),
        }
        return {name: plots.png(canvas) for name, canvas in figures.items()}
