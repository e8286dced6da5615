"""Curves of many training runs in one figure: a panel per setting, a colour and dash per size, other people's runs
beside one's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from face4d.evaluation.run_records import OURS, RunRecord
from face4d.view.plots import COLOURS, DASHES, MARKERS, STYLE, Dash

SMOOTHING = 0.2
_FEW = 60  # points up to which single ones are marked
_WIDE = 4.0
_SIZES = (128, 256, 512, 1024, 2048)

TAG_TITLES = {
    "train/loss": "training loss",
    "test/l1": "test L1 (m)",
    "test/mse": "test MSE (m²)",
    "test/mm": "test error (mm)",
    "test/accuracy": "test accuracy",
    "train/accuracy": "training accuracy",
    "validation/accuracy": "validation accuracy",
    "validation/mm": "validation error (mm)",
}


def rows_and_columns(records: Sequence[RunRecord]) -> tuple[list[tuple[str, int]], list[tuple[str, float]]]:
    """What the panels stand for: rows by (loss, layers), columns by (preset, learning rate), the thesis' first."""
    rows = sorted({(record.loss, record.layers) for record in records})
    columns = sorted(
        {(record.preset, record.lr) for record in records}, key=lambda column: (column[0] != "thesis", -column[1])
    )
    return rows, columns


def curve_panels(
    records: Sequence[RunRecord], tag: str = "", *, title: str = "", smoothing: float = 0.0
) -> Figure | None:
    """Curves over epochs of runs of one kind and data set; panels by loss or layers and by learning rate.

    Colour, dash and marker tell the hidden size; one's own runs are thick, those of others thin. Panels of a row share
    the vertical axis, unless they show the training loss, which every preset counts in its own way. Accuracies go from
    0 to 100 %; another axis is logarithmic where its values span a wide range.

    Args:
        tag: which curve; empty = the one that each run is judged by.
        smoothing: weight 0..1 of the exponential moving average's past; above 0 the raw curve stays behind it, pale.

    Returns:
        None where no run has such a curve.
    """
    records = [record for record in records if (tag or record.score_tag) in record.curves]
    if not records:
        return None
    rows, columns = rows_and_columns(records)
    sizes = sorted({record.hidden_size for record in records} | set(_SIZES))
    sharing = tag != "train/loss"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 3.0 * len(columns), 1.0 + 2.3 * len(rows)), layout="constrained")
        panels = figure.subplots(len(rows), len(columns), squeeze=False, sharey="row" if sharing else False)
        for line, (loss, layers) in enumerate(rows):
            for column, (preset, lr) in enumerate(columns):
                axes = panels[line][column]
                chosen = [r for r in records if (r.loss, r.layers, r.preset, r.lr) == (loss, layers, preset, lr)]
                for record in sorted(chosen, key=lambda r: (r.origin == OURS, r.hidden_size)):
                    _draw(axes, record, tag or record.score_tag, sizes.index(record.hidden_size), smoothing)
                if line == 0:
                    axes.set_title(f"{preset}, lr {lr:g}")
                if line == len(rows) - 1:
                    axes.set_xlabel("epoch")
                if column == 0:
                    row = loss.upper() if loss else f"{layers} layer{'s' if layers > 1 else ''}"
                    quantity = tag or next(r.score_tag for r in records if (r.loss, r.layers) == (loss, layers))
                    axes.set_ylabel(f"{row}: {TAG_TITLES.get(quantity, quantity)}")
                beside = [r for r in records if (r.loss, r.layers) == (loss, layers)] if sharing else chosen
                shown = tag or next((r.score_tag for r in beside), "")
                _scale(
                    axes,
                    shown.endswith("/accuracy"),
                    [value for r in beside for value in r.curves[tag or r.score_tag][1]],
                )
                _count_epochs(axes, chosen, tag)
                if not chosen:
                    axes.text(0.5, 0.5, "no run", transform=axes.transAxes, ha="center", va="center", color="#777777")
                    axes.set_xticks([])
                    if not sharing:
                        axes.set_yticks([])
        _legend(figure, records, sizes)
        figure.suptitle(title)
    return figure


def spans_decades(values: Sequence[float]) -> bool:
    """Whether finite values are all above zero and the largest is more than four times the smallest, so that a
    logarithmic axis shows more.
    """
    finite = [value for value in values if np.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > _WIDE * min(finite)


def _scale(axes: Axes, is_share: bool, values: Sequence[float]) -> None:
    """Shares from 0 to 100 %; other quantities logarithmic where they span much."""
    if is_share:
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    elif spans_decades(values):
        axes.set_yscale("log")


def _count_epochs(axes: Axes, chosen: Sequence[RunRecord], tag: str) -> None:
    """Whole epochs on the horizontal axis, with room around a single one."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    epochs = {epoch for record in chosen for epoch in record.curves[tag or record.score_tag][0]}
    if len(epochs) == 1:
        axes.set_xlim(min(epochs) - 1, min(epochs) + 1)


def _draw(axes: Axes, record: RunRecord, tag: str, number: int, smoothing: float) -> None:
    epochs, values = record.curves[tag]
    own = record.origin == OURS
    colour, dash = _look(number)
    if smoothing:
        axes.plot(epochs, values, color=colour, alpha=0.18, linewidth=0.6)
    marks = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), 6)).astype(int)).tolist()
    axes.plot(
        epochs,
        exponential_average(values, smoothing),
        color=colour,
        linestyle=dash,
        linewidth=1.8 if own else 0.9,
        marker=MARKERS[number % len(MARKERS)] if len(epochs) <= _FEW or own else None,
        markevery=marks,
        markerfacecolor=colour if own else "white",
        markersize=4.5 if own else 3,
    )


def exponential_average(values: Sequence[float], weight: float) -> np.ndarray:
    """s_0 = v_0, s_i = weight * s_{i-1} + (1 - weight) * v_i."""
    smooth = np.array(values, np.float64)
    for i in range(1, len(smooth)):
        smooth[i] = weight * smooth[i - 1] + (1 - weight) * smooth[i]
    return smooth


def _look(number: int) -> tuple[str, Dash]:
    return COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]


def _legend(figure: Figure, records: Sequence[RunRecord], sizes: Sequence[int]) -> None:
    """One legend for all panels: sizes, and whose runs where there are others'."""
    handles = []
    for size in sorted({record.hidden_size for record in records}):
        colour, dash = _look(sizes.index(size))
        marker = MARKERS[sizes.index(size) % len(MARKERS)]
        handles.append(Line2D([], [], color=colour, linestyle=dash, marker=marker, label=f"H {size}"))
    origins = sorted({record.origin for record in records}, key=lambda origin: (origin != OURS, origin))
    if origins != [OURS]:
        for origin in origins:
            own = origin == OURS
            looks: dict[str, Any] = {
                "linewidth": 1.8 if own else 0.9,
                "markersize": 4.5 if own else 3,
                "markerfacecolor": "#555555" if own else "white",
            }
            handles.append(Line2D([], [], color="#555555", label=origin, marker="o", **looks))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 9), handlelength=3)


def score_by_size(
    records: Sequence[RunRecord], *, references: dict[str, float] | None = None, title: str = "", quantity: str = ""
) -> Figure | None:
    """Best score of each run over the hidden size: a line per origin, preset, learning rate and number of layers.

    Runs of a single size are drawn one below the other, since lines over the size would be dots. One's own runs count
    with the weights kept, those of others with the best of all validations.

    Args:
        records: runs of one kind, data set and loss.
        references: horizontal lines, by name (trivial predictors).

    Returns:
        None where no run has a score.
    """
    series: dict[tuple, list[tuple[int, float]]] = {}
    for record in records:
        value = record.kept_score() if record.origin == OURS else record.best_score()
        if value is not None:
            key = (record.origin != OURS, record.origin, record.preset, record.layers, -record.lr)
            series.setdefault(key, []).append((record.hidden_size, value))
    if not series:
        return None
    if len({size for points in series.values() for size, _ in points}) == 1:
        return _scores_by_name(series, references or {}, title, quantity)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for number, ((_, origin, preset, layers, lr), points) in enumerate(sorted(series.items())):
            sizes, values = zip(*sorted(points))
            own = origin == OURS
            axes.plot(
                sizes,
                values,
                color=COLOURS[number % len(COLOURS)],
                linestyle=DASHES[number % len(DASHES)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=6 if own else 4.5,
                linewidth=1.8 if own else 1.0,
                markerfacecolor=COLOURS[number % len(COLOURS)] if own else "white",
                label=_told(origin, preset, layers, lr),
            )
        for name, value in (references or {}).items():
            axes.axhline(value, color="#555555", linewidth=0.9, linestyle=(0, (1, 1)))
            place: dict[str, Any] = {
                "xycoords": ("axes fraction", "data"),
                "xytext": (4, 0),
                "textcoords": "offset points",
                "va": "center",
            }
            axes.annotate(name, (1, value), fontsize=7, color="#555555", **place)
        heights = [*(value for points in series.values() for _, value in points), *(references or {}).values()]
        _scale(axes, "accuracy" in quantity, heights)
        axes.set_xscale("log", base=2)
        ticks = sorted({size for points in series.values() for size, _ in points})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.minorticks_off()
        axes.set_xlabel("hidden size H")
        axes.set_ylabel(quantity)
        axes.set_title(title)
        figure.legend(loc="outside right upper", handlelength=3)
    return figure


def _told(origin: str, preset: str, layers: int, lr: float) -> str:
    """A key of :func:`score_by_size`'s series in words; the rate with the sign that sorts it."""
    return f"{origin}, {preset}, lr {-lr:g}" + (f", {layers} layer{'s' if layers > 1 else ''}" if layers else "")


def _scores_by_name(
    series: Mapping[tuple, Sequence[tuple[int, float]]], references: Mapping[str, float], title: str, quantity: str
) -> Figure:
    """Scores of runs of one hidden size, and references below them, as dots with their values."""
    rows = [
        (f"{_told(*key[1:])}, H {size}", value, key[1])
        for key, points in sorted(series.items())
        for size, value in sorted(points)
    ]
    rows += [(name, value, "") for name, value in references.items()]
    is_share = "accuracy" in quantity
    limit = 1.0 if is_share else max((value for _, value, _ in rows if np.isfinite(value)), default=0.0) or 1.0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 0.9 + 0.32 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for line, (_, value, origin) in enumerate(rows):
            own = origin == OURS
            looks: dict[str, Any] = (
                {"color": COLOURS[0], "markersize": 6}
                if own
                else {"color": "#555555", "markersize": 7, "markerfacecolor": "white"}
            )
            axes.plot(value, line, "o" if origin else "|", **looks)
            text = f"{value:.1%}" if is_share else f"{value:.3g}"
            side = 1 if value < 0.8 * limit else -1  # of the dot, so that the number stays inside
            place: dict[str, Any] = {
                "xytext": (8 * side, 0),
                "textcoords": "offset points",
                "ha": "left" if side == 1 else "right",
                "va": "center",
            }
            axes.annotate(text, (value, line), fontsize=7, **place)
        axes.set_xlim(-0.03 * limit, 1.03 * limit)
        if is_share:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.7)
        axes.set_xlabel(quantity)
        axes.set_title(title)
    return figure
