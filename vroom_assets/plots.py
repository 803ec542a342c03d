"""Plots for the assets' pages in Dagster and for MLflow."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINES = 12  # of a plot
DOTS_PER_INCH = 110
INK, ACCENT, PALE = "#334155", "#0f766e", "#cbd5e1"


def figure(draw: Callable[[Axes], None], title: str, size: tuple[float, float] = (7.5, 3.6)) -> Figure:
    """One set of axes in the house style."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axes = canvas.subplots()
    draw(axes)
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    return canvas


def png(canvas: Figure) -> bytes:
    """The figure as a picture; drawn once, where `savefig` draws it a second time for its layout."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(stream)
    return stream.getvalue()


def markdown(picture: bytes, alt: str) -> str:
    """A PNG as Markdown with the picture inside, which needs no file server."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(picture).decode()})"


def over_time(frame: pd.DataFrame, title: str, unit: str) -> Figure:
    """Each column of a frame as a line over its index of times."""

    def draw(axes: Axes) -> None:
        for name in frame.columns[:MAX_LINES]:
            known = frame[name].dropna()
            axes.plot(known.index.to_numpy(), known.to_numpy(), marker=".", label=str(name))
        axes.set_ylabel(unit)
        axes.tick_params(axis="x", rotation=20)
        axes.legend(frameon=False, fontsize=8, ncols=2)

    return figure(draw, title)


def target_distribution(target: np.ndarray, name: str) -> Figure:
    def draw(axes: Axes) -> None:
        levels, counts = np.unique(target, return_counts=True)
        if len(levels) <= 60:
            axes.bar(levels, counts, color=ACCENT)
        else:
            axes.hist(target, bins=40, color=ACCENT)
        axes.axvline(target.mean(), color=INK, linestyle="--", label=f"mean {target.mean():.2f}")
        axes.set_xlabel(name)
        axes.set_ylabel("entities")
        axes.legend(frameon=False)

    return figure(draw, f"Distribution of {name}")


def target_by_feature(frame: pd.DataFrame, target: np.ndarray, name: str) -> Figure:
    """Mean target over each feature's quantile bins, features side by side on a common scale."""

    # Those with the clearest trend: more lines than these nobody tells apart.
    if len(frame.columns) > MAX_LINES:
        trends = frame.rank().corrwith(pd.Series(target, index=frame.index).rank()).abs()
        frame = frame[trends.sort_values(ascending=False).index[:MAX_LINES]]

    def draw(axes: Axes) -> None:
        for feature in frame.columns:
            values = frame[feature]
            bins = values if values.nunique() <= 8 else pd.qcut(values, 8, duplicates="drop", labels=False)
            means = pd.Series(target, index=frame.index).groupby(bins).mean().to_numpy()
            axes.plot(np.linspace(0, 1, len(means)), means, marker="o", label=feature)
        axes.set_xlabel("from the feature's lowest to its highest bin")
        axes.set_ylabel(f"mean {name}")
        axes.legend(frameon=False, fontsize=8, ncols=2)

    return figure(draw, f"What moves {name}")


def candidates(fold_metrics: pd.DataFrame, metric: str, chosen: str) -> Figure:
    """The metric of every candidate over the folds."""
    order = fold_metrics.groupby("candidate")[metric].mean().sort_values(ascending=False).index

    def draw(axes: Axes) -> None:
        for position, name in enumerate(order):
            values = fold_metrics.loc[fold_metrics["candidate"] == name, metric]
            color = ACCENT if name == chosen else INK
            axes.scatter(values, np.full(len(values), position), color=PALE, s=18)
            axes.scatter([values.mean()], [position], color=color, s=60, marker="D")
            axes.annotate(
                f"{values.mean():.3f}", (values.max(), position), xytext=(6, -3), textcoords="offset points"
            )
        axes.set_yticks(range(len(order)), order)
        axes.set_xlabel(f"{metric} per fold (diamond: mean)")

    return figure(draw, f"Candidates on the same folds; chosen: {chosen}", (7.5, 0.8 + 0.4 * len(order)))


def predicted_and_seen(prediction: np.ndarray, target: np.ndarray, unit: str) -> Figure:
    """Mean outcome against mean out-of-fold prediction, per decile of the prediction; of chances, a reliability plot."""
    table = pd.DataFrame({"prediction": prediction, "target": target})
    parts = table.groupby(pd.qcut(table["prediction"], 10, duplicates="drop", labels=False))
    deciles, errors = parts.mean(), parts["target"].sem()
    title = "Reliability" if np.isin(target, (0, 1)).all() else "Predicted and observed"

    def draw(axes: Axes) -> None:
        top = float(deciles.to_numpy().max()) * 1.05
        axes.plot([0, top], [0, top], color=PALE)
        axes.errorbar(deciles["prediction"], deciles["target"], yerr=1.96 * errors, marker="o", color=ACCENT)
        axes.set_xlabel(f"predicted {unit}, mean per decile, out of fold")
        axes.set_ylabel(f"observed {unit}, mean with 95 %")

    return figure(draw, title)


def importances(values: dict[str, float], error: str) -> Figure:
    ordered = sorted(values.items(), key=lambda item: item[1])

    def draw(axes: Axes) -> None:
        axes.barh([name for name, _ in ordered], [value for _, value in ordered], color=ACCENT)
        axes.set_xlabel(f"increase of {error} when the feature is shuffled, out of fold")

    return figure(draw, "What the chosen candidate relies on", (7.5, 0.8 + 0.35 * len(values)))
