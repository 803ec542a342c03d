"""The declaration of one forecast, and what a change of each of its fields leads to."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

import sqlglot
from pydantic import Field, field_validator, model_validator

from vroom_api.contract import Kind
from vroom_assets.features.expressions import Feature, parse
from vroom_assets.spec.base import NAME, Declared
from vroom_assets.spec.candidates import Candidate
from vroom_assets.spec.monitoring import Monitoring, Retraining
from vroom_assets.spec.tables import AsOf, Column, Examples, Format, Source


class Entity(Declared):
    """What a prediction is about: one row of `source`, known by `key`. A source, or a table of examples."""

    name: str
    source: str
    key: str
    id: str | None = Field(
        None,
        description="column of the id that callers use; the latest inputs are found by it. Default for a source: the key",
    )
    tags: list[str] = Field(
        [],
        max_length=8,
        description="text columns that errors are reported by, and predictions recorded with; no inputs",
    )


class Target(Declared):
    """What is forecast. `target.sql` yields one row per entity: its key and the target."""

    added = frozenset({"window_days", "as_of", "due_days", "due_input"})

    name: str = Field(pattern=NAME)
    kind: Kind
    unit: str
    horizon: str = Field(description="the period that the number covers, as text")
    window_days: float | None = Field(
        None,
        gt=0,
        description="length of that period: target.sql counts what lies after `opens` and up to `closes` of the "
        "table target_window, which ends with the data",
    )
    as_of: str | None = Field(
        None,
        description="<source>.<column> whose latest value dates the data; else they are as old as their newest file",
    )
    known_at: str | None = Field(
        None,
        description="column of target.sql that says when the target was known; ordered validation needs it",
    )
    due_days: float | None = Field(
        None,
        gt=0,
        description="days from a prediction until its target is known; `window_days` where it is left out",
    )
    due_input: str | None = Field(
        None,
        description="instead of it: the input that says how many days are left until the target is known",
    )

    @property
    def due_after_days(self) -> float | None:
        """Days from a prediction until its target is known; None where that is not declared, or an input says it."""
        return self.due_days or self.window_days


ONE_CLASS = "a forecast of several classes is that of one of them against the others, with `kind: binary`"  # of all refusals


class Fallback(Declared):
    """The candidate that answers when inputs are left out which most, but not all, have: a history, say."""

    candidate: str
    without: list[str] = Field(
        min_length=1, description="the inputs that may be left out; the candidate does not read them"
    )
    description: str = Field(description="the text that goes with such an answer")


class Choice(StrEnum):
    """Which candidate is chosen of those that the folds cannot tell apart."""

    LOWEST = "lowest"
    SIMPLEST = "simplest"


class Validation(Declared):
    """Repeated k-fold cross-validation; the inner folds choose a candidate inside each outer fold.

    With `order` it goes forward in time: each block of later rows is predicted by what was known before it.
    """

    added = frozenset({"choice", "precision", "budget_seconds"})

    folds: int = Field(
        5, ge=2, description="number of folds; each is predicted by models fitted on the others"
    )
    repeats: int = Field(2, ge=1, description="repetitions of the whole, with other folds")
    inner_folds: int = Field(
        4, ge=2, description="folds of the training rows, by which a candidate is chosen"
    )
    seed: int = Field(7, description="random seed of folds and models")
    choice: Choice = Field(
        Choice.LOWEST,
        description="which candidate is chosen: that of the lowest mean, or the simplest within one standard error of it",
    )
    precision: float = Field(
        0.001,
        gt=0,
        lt=0.1,
        description="of more than 20,000 rows: candidates whose errors differ by less than this share are equal, so that no more "
        "rows are needed to tell them apart",
    )
    budget_seconds: float | None = Field(
        None,
        gt=0,
        description="of more than 20,000 rows: the search takes no further sample that would last longer",
    )
    group: str | None = Field(
        None, description="column of the entity's table; rows that share its value are never in two folds"
    )
    order: str | None = Field(
        None,
        description="time column of the entity's table; rows are predicted by models of targets known before",
    )
    blocks: int = Field(
        4, ge=1, description="with order: blocks of time that are predicted, after a first that is not"
    )


class Contest(Declared):
    """When a challenger replaces the champion."""

    effect: float = Field(0.005, ge=0, description="least gain, as a share of the champion's error")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="one-sided, over the rows")
    margin: float = Field(0.01, ge=0, description="a refit may be worse by this share and still refresh")


class Required(StrEnum):
    """Of a first champion."""

    BASELINES = "baselines"
    ALL = "all"


class Gates(Declared):
    """What no verdict overrides, each measured out of fold, or against the data of the champion.

    The first champion is published without them, as provisional, if it is better than the baselines.
    """

    added = frozenset({"target_shift", "rows_factor", "require"})

    coverage: tuple[float, float] = Field(
        (0.88, 0.94), description="lowest and highest share of outcomes inside the 90 % interval"
    )
    tercile_coverage: float = Field(0.84, description="least coverage in any tercile of the prediction")
    bias: float = Field(0.05, description="largest |mean error| as a share of the mean target")
    calibration_error: float = Field(
        0.04, description="binary: largest expected calibration error, over ten bins of equal size"
    )
    reference: str | None = Field(
        None,
        description="a candidate; what is published may be worse than it by at most `reference_margin`",
    )
    reference_margin: float = Field(0.01, ge=0, description="as a share of the reference's error")
    target_shift: float = Field(
        0.5,
        gt=0,
        description="largest change of the mean target since the champion's data, as a share of that mean, or of "
        "the target's standard deviation where that is larger",
    )
    rows_factor: float = Field(
        3.0,
        gt=1,
        description="largest factor by which the number of examples may differ from that of the champion's data",
    )
    parity: float = Field(1e-6, description="largest relative difference of bundle and model")
    require: Required = Field(
        Required.BASELINES,
        description="what a first champion has to pass: to be better than the `baselines`, and then it serves as "
        "provisional, or `all` gates",
    )


class Automation(Declared):
    """When the forecast renews itself."""

    interval_seconds: int = Field(5, ge=1, le=15, description="seconds between two checks of the sources")
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


class Purpose(StrEnum):
    """What a field of a declaration is for, and so what its change leads to."""

    DATA = "data"  # the feature table is made of it: train
    MODEL = "model"  # models are fitted and measured by it: train
    JUDGING = "judging"  # the challenger is judged by it: hold the contest again, without a training
    SERVING = "serving"  # only the bundle says it: publish the same model again, with another manifest
    OPERATION = "operation"  # holds from the next load of the definitions on: nothing runs


class ForecastSpec(Declared):
    """The declaration of one forecast."""

    added = frozenset({"monitoring", "retraining"})

    name: str = Field(pattern=NAME)
    title: str
    description: str
    owner: str = Field(description="an e-mail address or `team:<name>`")
    sources: dict[str, Source]
    examples: dict[str, Examples] = Field({}, description="tables of what was known at several times")
    entity: Entity
    inputs: list[str] = Field(
        description="columns of the entity's source that a caller sends; default for a table of examples: all but its key, "
        "id, tags, `as_of`, and those that order and group the validation"
    )
    target: Target
    candidates: dict[str, Candidate]
    fallback: Fallback | None = Field(None, description="what answers when some inputs are left out")
    validation: Validation = Validation()
    contest: Contest = Contest()
    gates: Gates = Gates()
    automation: Automation = Automation()
    advice: dict[str, Advice] = Field({}, description="the questions that the service advises on, by name")
    freshness: Freshness = Freshness()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    features_sql: str = Field("", description="filled from features.sql beside this file")
    target_sql: str = Field("", description="filled from target.sql beside this file")
    examples_sql: dict[str, str] = Field({}, description="filled from <examples>.sql beside this file")

    @field_validator("sources", "examples", "candidates", "advice")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not name.isidentifier() or name != name.lower():
                raise ValueError(f"{name!r} is not a valid name: use lower-case letters, digits and _")
        return value

    @property
    def entity_columns(self) -> dict[str, Column]:
        """The columns of the table with a row per entity."""
        name = self.entity.source
        return self.sources[name].columns if name in self.sources else self.examples[name].columns

    @property
    def entity_id(self) -> str | None:
        """The column by which the latest inputs of an entity are found; None where they are not stored."""
        return self.entity.id or (self.entity.key if self.entity.source in self.sources else None)

    @property
    def input_columns(self) -> dict[str, Column]:
        """The declared inputs, in request order."""
        columns = self.entity_columns
        return {name: columns[name] for name in self.inputs}

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The declared features, parsed once for all that use them.

        Raises:
            FeatureError: features.sql is not a statement that the service can compute too.
        """
        return tuple(parse(self.features_sql, self.input_columns))

    def with_levels(self, levels: Mapping[str, Sequence[str]]) -> Self:
        """The declaration on data with such levels of its categories, by input; it means the same as declared."""

        def learnt(columns: dict[str, Column]) -> dict[str, Column]:
            return {
                name: column.with_levels(levels[name]) if name in levels and column.is_category else column
                for name, column in columns.items()
            }

        part = "sources" if self.entity.source in self.sources else "examples"
        tables = dict(getattr(self, part))
        table = tables[self.entity.source]
        tables[self.entity.source] = table.model_copy(update={"columns": learnt(table.columns)})
        resolved = self.model_copy(update={part: tables})
        categories, optional = (
            resolved.categories_of(resolved.features),
            resolved.optional_of(resolved.features),
        )
        candidates = {name: one.on_features(categories, optional) for name, one in self.candidates.items()}
        return resolved.model_copy(update={"candidates": candidates})

    def categories_of(self, features: Sequence[Feature]) -> dict[str, int]:
        """The features that are categories, with how many levels they have."""
        columns = self.input_columns
        return {
            feature.name: len(columns[feature.category].levels)
            for feature in features
            if feature.category is not None
        }

    def optional_of(self, features: Sequence[Feature]) -> frozenset[str]:
        """The features that are missing where an input is left out."""
        optional = {name for name, column in self.input_columns.items() if column.nullable}
        return frozenset(feature.name for feature in features if feature.unguarded & optional)

    def with_values(self, candidates: Mapping[str, Candidate]) -> Self:
        """The declaration with candidates for whose parameters values were chosen; it means the same as declared."""
        return self.model_copy(update={"candidates": dict(candidates)})

    def past_columns(self, source: str) -> set[str]:
        """The columns of a source that say when something happened or became known, which is in the past."""
        declared = self.sources[source]
        events = [one.as_of.events for one in self.examples.values()]
        events += [self.target.as_of] if self.target.as_of is not None else []
        named = {column for table, _, column in (event.partition(".") for event in events) if table == source}
        return named | {column for column in (declared.event_time, declared.load_time) if column is not None}

    def described(self, feature: str, comment: str) -> str:
        """The description of a feature: its comment, or the description of the input that has its name."""
        column = self.input_columns.get(feature)
        return comment or (column.description if column is not None else "")

    def data_version(self, snapshots: dict[str, str]) -> str:
        """The version of the feature table: the sources' contents and the definitions that turn them into it."""
        return _digest({"snapshots": snapshots, "definitions": self.fingerprint(Purpose.DATA)})

    def trained_version(self, snapshots: dict[str, str]) -> str:
        """The version of a training: its data version, and by what models are fitted and measured."""
        return _digest([self.data_version(snapshots), self.fingerprint(Purpose.MODEL)])

    def fingerprint(self, purpose: Purpose, *parts: str) -> str:
        """SHA-256 over the fields of a purpose: the code version of what they define.

        Args:
            parts: only those within these fields of the forecast; within all when none is named.
        """
        known = (purpose, *parts)
        if known not in self.fingerprints:
            self.fingerprints[known] = self._fingerprint(purpose, parts)
        return self.fingerprints[known]

    @cached_property
    def fingerprints(self) -> dict[tuple[str, ...], str]:
        """Those that were asked for: each sensor asks for four every few seconds."""
        return {}

    def _fingerprint(self, purpose: Purpose, parts: Sequence[str]) -> str:
        fields = _fields_for(self, purpose)
        if purpose is Purpose.DATA:  # comments and layout make no other table
            fields["features_sql"] = _tokens(self.features_sql)
            fields["target_sql"] = _tokens(self.target_sql)
            fields["examples_sql"] = {name: _tokens(sql) for name, sql in self.examples_sql.items()}
        if purpose is Purpose.SERVING:  # of columns it says the inputs, of features.sql the comments
            fields = {name: value for name, value in fields.items() if name not in ("sources", "examples")}
            fields["inputs"] = {
                name: _fields_for(column, purpose) for name, column in self.input_columns.items()
            }
            fields["features_sql"] = self.features_sql
        return _digest({name: value for name, value in fields.items() if not parts or name in parts})

    def whole_fingerprint(self) -> str:
        """SHA-256 over all fields: which declaration this is."""
        return _digest(self.model_dump(mode="json"))

    def former_data_version(self, snapshots: dict[str, str]) -> str:
        """The data version as it was made before fields had purposes; homes of that time hold it."""
        definitions = self.model_dump(mode="json", include=FORMER_DATA_FIELDS)
        return _digest({"snapshots": snapshots, "definitions": _digest(definitions)})

    def former_trained_version(self, snapshots: dict[str, str]) -> str:
        """The version of a training as it was made before fields had purposes."""
        return _digest([self.former_data_version(snapshots), self.whole_fingerprint()])


FORMER_DATA_FIELDS = {
    *("sources", "examples", "entity", "inputs", "target"),
    *("features_sql", "target_sql", "examples_sql"),
}

# The purpose of every field that holds no declared parts of its own. A field that is missing here fails a test.
PURPOSES: dict[type[Declared], dict[Purpose, set[str]]] = {
    Column: {
        Purpose.DATA: {
            *("type", "minimum", "above", "maximum", "unique", "nullable", "values", "references"),
            *("like", "earliest", "latest", "least_rows", "header", "joins"),
        },
        Purpose.SERVING: {"description", "unit", "unseen"},
    },
    Format: {
        Purpose.DATA: {
            *(
                "delimiter",
                "quote",
                "escape",
                "encoding",
                "decimal",
                "thousands",
                "nulls",
                "dates",
                "zone",
                "skip",
                "trim",
                "header",
            ),
        },
    },
    Source: {
        Purpose.DATA: {"path", "event_time", "load_time", "tolerated_bad_share"},
        Purpose.OPERATION: {"description"},
    },
    AsOf: {Purpose.DATA: {"events", "every", "history_days", "horizon_days"}},
    Examples: {Purpose.OPERATION: {"description"}},
    Entity: {Purpose.DATA: {"source", "key", "id", "tags"}, Purpose.SERVING: {"name"}},
    Target: {
        Purpose.DATA: {"name", "kind", "as_of", "known_at", "window_days"},
        Purpose.SERVING: {"unit", "horizon", "due_days", "due_input"},
    },
    Candidate: {
        Purpose.MODEL: {
            *("family", "features", "terms", "members", "parameters", "offset", "calibration", "monotone"),
            *("transform", "trend", "bins", "ranks"),
        },
    },
    Fallback: {Purpose.MODEL: {"candidate", "without"}, Purpose.SERVING: {"description"}},
    Validation: {
        Purpose.DATA: {"group", "order"},  # columns of the feature table
        Purpose.MODEL: {
            "folds",
            "repeats",
            "inner_folds",
            "seed",
            "blocks",
            "choice",
            "precision",
            "budget_seconds",
        },
    },
    Contest: {Purpose.JUDGING: {"effect", "confidence", "margin"}},
    Gates: {
        Purpose.JUDGING: {
            *("coverage", "tercile_coverage", "bias", "calibration_error", "reference_margin"),
            *("target_shift", "rows_factor", "require"),
        },
        Purpose.MODEL: {"reference", "parity"},  # measured in the training alone
    },
    Automation: {Purpose.OPERATION: {"interval_seconds", "schedule"}},
    Advice: {Purpose.SERVING: {"lever", "worth", "unit", "description"}},
    Ages: {Purpose.SERVING: {"stale_after_days", "expired_after_days"}},
    Freshness: {Purpose.SERVING: {"expired"}},
    Monitoring: {
        Purpose.OPERATION: {
            *("window_minutes", "least_rows", "false_alarms", "distance", "growth", "bias", "coverage"),
            *("damage", "segments", "recalibrate", "shadow_days"),
        },
    },
    Retraining: {
        Purpose.OPERATION: {
            *("on_drift", "on_decay", "model_age_days", "new_rows", "before_due_days"),
            *("cool_down_minutes", "runs_per_day"),
        },
    },
    ForecastSpec: {
        Purpose.DATA: {"name", "inputs", "features_sql", "target_sql", "examples_sql"},
        Purpose.SERVING: {"title"},
        Purpose.OPERATION: {"description", "owner"},
    },
}


def _fields_for(part: Declared, purpose: Purpose) -> dict[str, Any]:
    """The fields of a purpose, also of the parts within; parts that have none are left out."""
    declared = next(kind for kind in type(part).__mro__ if kind in PURPOSES)
    fields = part.model_dump(mode="json", include=PURPOSES[declared].get(purpose, set()))
    for name in declared.model_fields:
        value = getattr(part, name)
        if isinstance(value, Declared) and (inner := _fields_for(value, purpose)):
            fields[name] = inner
        elif isinstance(value, dict):
            parts = {key: one for key, one in value.items() if isinstance(one, Declared)}
            within = {key: _fields_for(one, purpose) for key, one in parts.items()}
            if any(within.values()):
                fields[name] = within
    return fields


def _tokens(sql: str) -> list[str]:
    """A statement without its comments and its layout; as it stands where it cannot be taken apart."""
    try:
        return [sql[token.start : token.end + 1] for token in sqlglot.tokenize(sql, read="duckdb")]
    except sqlglot.errors.TokenError:
        return [sql]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
