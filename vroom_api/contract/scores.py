"""How good a version is, measured on rows that its choice had not seen."""

from vroom_api.contract.struct import ContractStruct


class Scores(ContractStruct, frozen=True):
    """The figures of one training. Where it says "by metric", keys are names such as `mae` or `log_loss`."""

    error: str  # the metric that errors are reported by
    select: str  # the metric that candidates are chosen by
    nested: dict[str, float]  # by metric: the search as a whole, on folds that its choices had not seen
    cv_mean: dict[str, float]  # by metric: the chosen candidate over the folds
    cv_std: dict[str, float]
    folds: list[float]  # the error of the chosen candidate in each fold
    baselines: dict[str, dict[str, float]]  # by baseline, then by metric
    train: dict[str, float] = {}  # by metric: on the rows that it was fitted on
    coverage: dict[str, float] = {}  # of the 90 % interval, out of fold: overall and by tercile
    loss_over_reference: float | None = (
        None  # how much the error is above the declared reference's, as a share
    )
    fallback_error: float | None = None
    fallback_coverage: dict[str, float] = {}
    why: str = ""  # the candidate was chosen, in a sentence; "" before it was kept

    def skill(self, baseline: str) -> dict[str, float]:
        """By metric: the share of a baseline's error that is saved."""
        return {
            metric: 1.0 - self.nested[metric] / value for metric, value in self.baselines[baseline].items()
        }

    def flat(self) -> dict[str, float]:
        """All figures under names of their own, as MLflow, Dagster and the service show them."""
        found = {f"nested_{metric}": value for metric, value in self.nested.items()}
        for metric, mean in self.cv_mean.items():
            found |= {f"cv_{metric}_mean": mean, f"cv_{metric}_std": self.cv_std[metric]}
        found |= {f"cv_{self.error}_fold_{number}": value for number, value in enumerate(self.folds)}
        if self.loss_over_reference is not None:
            found["loss_over_reference"] = self.loss_over_reference
        for name, figures in self.baselines.items():
            found |= {f"{name}_{metric}": value for metric, value in figures.items()}
            found |= {f"skill_{metric}_over_{name}": value for metric, value in self.skill(name).items()}
        found |= {f"train_{metric}": value for metric, value in self.train.items()}
        found |= {f"coverage_{part}": value for part, value in self.coverage.items()}
        if self.fallback_error is not None:
            found[f"fallback_{self.error}"] = self.fallback_error
        found |= {f"fallback_coverage_{part}": value for part, value in self.fallback_coverage.items()}
        return found
