"""ForecastSpec: the typed declaration of a forecast.

A forecast is a folder under ``defs/`` that holds ``defs.yaml`` (these fields), ``features.sql`` and
``target.sql``. Everything the machinery knows about a problem, it knows from here; a declaration that
contradicts itself is refused before anything runs, with the field and the remedy.
"""

import hashlib
import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Self

import dagster as dg
from pydantic import ConfigDict, Field, field_validator, model_validator

NAME = r"^[a-z][a-z0-9_]*$"


class Declared(dg.Model, dg.Resolvable):
    """Base of all parts of a declaration: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnType(StrEnum):
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    TIMESTAMP = "timestamp"


class Column(Declared):
    """One column of a source: what a cell may hold. Bounds are inclusive unless they say `above`."""

    type: ColumnType
    description: str = ""
    unit: str | None = None
    minimum: float | None = None
    above: float | None = Field(None, description="exclusive lower bound")
    maximum: float | None = None
    unique: bool = False
    nullable: bool = False
    references: str | None = Field(None, description="<source>.<column> whose values this column may hold")

    @property
    def range(self) -> str:
        """The bounds in words, as error messages and the API's documentation give them."""
        low = f"≥ {self.minimum:g}" if self.minimum is not None else ""
        low = f"> {self.above:g}" if self.above is not None else low
        high = f"≤ {self.maximum:g}" if self.maximum is not None else ""
        return " and ".join(part for part in (low, high) if part)


class Source(Declared):
    """A raw CSV and the contract its rows must keep."""

    path: str = Field(description="CSV file, relative to the data folder")
    description: str
    columns: dict[str, Column]
    tolerated_bad_share: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="bad rows up to this share are quarantined; above it the file is refused",
    )


class Entity(Declared):
    """What a prediction is about: one row of `source`, known by `key`."""

    name: str
    source: str
    key: str


class Kind(StrEnum):
    COUNT = "count"


class Target(Declared):
    """What is forecast. `target.sql` yields one row per entity: its key and the target."""

    name: str = Field(pattern=NAME)
    kind: Kind
    unit: str
    horizon: str = Field(description="what period the number covers, in words")
    as_of: str = Field(description="<source>.<column> whose latest value dates the data")


class Family(StrEnum):
    FOREST = "forest"
    POISSON_BOOSTING = "poisson_boosting"
    POISSON_GLM = "poisson_glm"
    POISSON_EBM = "poisson_ebm"
    AVERAGE = "average"
    MEAN = "mean"
    MEDIAN = "median"


class Candidate(Declared):
    """A model recipe in the search."""

    family: Family
    features: list[str] = Field([], description="the features it sees")
    terms: list[str] = Field([], description="poisson_glm: products of features, as `a * b` or `a ^ 2`")
    members: list[str] = Field([], description="average: the candidates it averages")
    parameters: dict[str, Any] = Field({}, description="passed to the estimator as they are")


class Validation(Declared):
    """Repeated k-fold cross-validation; the inner folds choose a candidate inside each outer fold."""

    folds: int = Field(5, ge=2)
    repeats: int = Field(2, ge=1)
    inner_folds: int = Field(4, ge=2)
    seed: int = 7


class Contest(Declared):
    """When a challenger replaces the champion."""

    effect: float = Field(0.005, ge=0, description="least gain, as a share of the champion's error")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="one-sided, over the rows")
    margin: float = Field(0.01, ge=0, description="a refit may be worse by this share and still refresh")


class Gates(Declared):
    """What no verdict overrides, each measured out of fold."""

    coverage: tuple[float, float] = Field((0.88, 0.94), description="of the 90 % interval")
    tercile_coverage: float = Field(0.84, description="least coverage in any tercile of the prediction")
    bias: float = Field(0.05, description="largest |mean error| as a share of the mean target")
    parity: float = Field(1e-6, description="largest relative difference of bundle and model")


class Automation(Declared):
    """When the forecast renews itself."""

    interval_seconds: int = Field(5, ge=1, le=15, description="how often the sources are looked at")
    schedule: str = Field("0 4 * * *", description="cron of the safety net")


class Advice(Declared):
    """An input that the entity's owner may set, and what a value of it is worth."""

    lever: str = Field(description="the input that may be set; its worth is lever × prediction")
    worth: str = Field(pattern=NAME, description="the name of lever × prediction, e.g. revenue")
    unit: str = Field(description="unit of the worth")
    description: str = Field(description="what the worth is, and what it leaves out")


class Ages(Declared):
    """From which age on something is stale, and from which on expired."""

    stale_after_days: float = Field(gt=0)
    expired_after_days: float = Field(gt=0)

    @model_validator(mode="after")
    def _stale_before_expired(self) -> Self:
        if self.expired_after_days < self.stale_after_days:
            raise ValueError(
                f"expired_after_days: {self.expired_after_days:g} comes before "
                f"stale_after_days, {self.stale_after_days:g}"
            )
        return self


class Expired(StrEnum):
    FLAG = "flag"
    REFUSE = "refuse"


class Freshness(Declared):
    """How old an answer's model and data may be. What has no limits is reported and not judged."""

    model_age: Ages | None = Field(None, description="time since the training")
    data_age: Ages | None = Field(None, description="time since the latest event in the data")
    expired: Expired = Field(Expired.FLAG, description="flag expired answers, or refuse them")


class ForecastSpec(Declared):
    """The declaration of one forecast."""

    name: str = Field(pattern=NAME)
    title: str
    description: str
    owner: str = Field(description="an e-mail address or `team:<name>`")
    sources: dict[str, Source]
    entity: Entity
    inputs: list[str] = Field(description="columns of the entity's source that a caller sends")
    target: Target
    candidates: dict[str, Candidate]
    validation: Validation = Validation()
    contest: Contest = Contest()
    gates: Gates = Gates()
    automation: Automation = Automation()
    advice: dict[str, Advice] = Field({}, description="what the service may advise about")
    freshness: Freshness = Freshness()
    features_sql: str = Field("", description="filled from features.sql beside this file")
    target_sql: str = Field("", description="filled from target.sql beside this file")

    @field_validator("sources", "candidates", "advice")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not name.isidentifier() or name != name.lower():
                raise ValueError(f"{name!r} is no name: use lower-case letters, digits and _")
        return value

    @model_validator(mode="after")
    def _refer_to_what_is_declared(self) -> Self:
        self._known("entity.source", self.entity.source, self.sources)
        table = self.sources[self.entity.source].columns
        self._known("entity.key", self.entity.key, table)
        for name in self.inputs:
            self._known("inputs", name, table)
        self._column("target.as_of", self.target.as_of)
        for name, advice in self.advice.items():
            self._known(f"advice.{name}.lever", advice.lever, self.inputs)
        for source_name, source in self.sources.items():
            for column_name, column in source.columns.items():
                if column.references:
                    self._column(f"sources.{source_name}.columns.{column_name}.references", column.references)
        for name, candidate in self.candidates.items():
            for member in candidate.members:
                self._known(f"candidates.{name}.members", member, self.candidates)
        return self

    @staticmethod
    def _known(field: str, name: str, known: Sequence[str] | dict[str, Any]) -> None:
        if name not in known:
            raise ValueError(f"{field}: {name!r} is not declared; use one of {', '.join(known)}")

    def _column(self, field: str, reference: str) -> None:
        source, _, column = reference.partition(".")
        self._known(field, source, self.sources)
        self._known(field, column, self.sources[source].columns)

    @property
    def input_columns(self) -> dict[str, Column]:
        """The declared inputs, in request order."""
        columns = self.sources[self.entity.source].columns
        return {name: columns[name] for name in self.inputs}

    def data_version(self, snapshots: dict[str, str]) -> str:
        """The version of the feature table: the sources' contents and the definitions that turn them into it."""
        definitions = self.fingerprint("sources", "entity", "inputs", "target", "features_sql", "target_sql")
        return _digest({"snapshots": snapshots, "definitions": definitions})

    def trained_version(self, snapshots: dict[str, str]) -> str:
        """The version of a training: its data version and the whole declaration."""
        return _digest([self.data_version(snapshots), self.fingerprint()])

    def fingerprint(self, *parts: str) -> str:
        """SHA-256 over the named fields (all fields when none is named): the code version of what they define."""
        fields = self.model_dump(mode="json", include=set(parts) if parts else None)
        return _digest(fields)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
