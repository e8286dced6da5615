"""Figures of scores: strips of frames, error over time, error on the face, classifier features in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from face4d.constants import LANDMARK_GROUPS, LANDMARK_LINES, MM_PER_METRE, NUM_LANDMARKS
from face4d.view.plots import COLOURS, DASHES, MARKERS, STYLE

FRAMES = 6
# The colours of landmark_view: jaw in dark grey, then Okabe and Ito.
GROUP_COLOURS: dict[str, str] = {
    "jaw": "#5a5a5a",
    "brows": "#CC79A7",
    "nose": "#009E73",
    "eyes": "#0072B2",
    "mouth": "#D55E00",
}
# of each landmark
_GROUP_OF = [name for name, group in LANDMARK_GROUPS.items() for _ in range(group.start, group.stop)]
_PALE = dict.fromkeys(GROUP_COLOURS, "#d8d8d8")


def draw_face(
    axes: Axes,
    points: np.ndarray,
    colours: dict[str, str] = GROUP_COLOURS,
    *,
    linewidth: float = 1.0,
    dots: float = 2.0,
) -> None:
    """Front view of 68 landmarks as lines and dots.

    Args:
        points: (68, 2 or 3) metres; x to the right, y up.
        colours: by landmark group.
        dots: area of a landmark's dot in points squared, 0 = none.
    """
    shades = [colours[name] for name in _GROUP_OF]
    lines = [points[list(line), :2] for line in LANDMARK_LINES]
    strokes = LineCollection(
        lines, colors=[shades[line[0]] for line in LANDMARK_LINES], linewidths=linewidth, capstyle="round"
    )
    axes.add_collection(strokes, autolim=False)
    if dots:
        axes.scatter(points[:, 0], points[:, 1], s=dots, c=shades, linewidths=0)


def bare(axes: Axes, limits: tuple[float, float, float, float]) -> None:
    """Equal axes without ticks, in the given limits (left, right, bottom, top)."""
    axes.set_xlim(limits[0], limits[1])
    axes.set_ylim(limits[2], limits[3])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def limits_of(*sequences: np.ndarray, margin: float = 0.05) -> tuple[float, float, float, float]:
    """Left, right, bottom, top around all points (..., 2 or 3) of all sequences, metres."""
    points = np.concatenate([sequence[..., :2].reshape(-1, 2) for sequence in sequences])
    low, high = points.min(axis=0), points.max(axis=0)
    rim = margin * (high - low).max()
    return low[0] - rim, high[0] + rim, low[1] - rim, high[1] + rim


def strip(real: np.ndarray, generated: np.ndarray, *, title: str = "") -> Figure:
    """Frames at equal distances from first to last, ground truth above, generated below, the first frame in grey
    behind.

    Args:
        real, generated: (T, 68, 3) metres, of equal length.

    Raises:
        ValueError: different shapes.
    """
    if real.shape != generated.shape:
        raise ValueError(f"expected two sequences of one shape, found {real.shape} and {generated.shape}")
    chosen = np.linspace(0, len(real) - 1, min(FRAMES, len(real))).round().astype(int)
    limits = limits_of(real, generated)
    panel = 1.15
    height = panel * (limits[3] - limits[2]) / (limits[1] - limits[0])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.3 + panel * len(chosen), 0.75 + 2 * height))
        panels = figure.subplots(2, len(chosen), squeeze=False)
        figure.subplots_adjust(
            left=0.3 / figure.get_figwidth(),
            right=1,
            bottom=0.2 / figure.get_figheight(),
            top=1 - 0.5 / figure.get_figheight(),
        )
        figure.subplots_adjust(wspace=0.02, hspace=0.08)
        for row, (name, sequence) in enumerate((("ground truth", real), ("generated", generated))):
            for column, frame in enumerate(chosen):
                axes = panels[row][column]
                draw_face(axes, sequence[0], _PALE, linewidth=0.7, dots=0)
                draw_face(axes, sequence[frame])
                bare(axes, limits)
                if row == 0:
                    axes.set_title(f"frame {frame}", fontsize=8)
                else:
                    error = np.linalg.norm(generated[frame] - real[frame], axis=1).mean() * MM_PER_METRE
                    axes.set_xlabel(f"{error:.2f} mm", fontsize=8, labelpad=1)
            panels[row][0].set_ylabel(name)
        figure.suptitle(title, fontsize=10, y=1 - 0.03 / figure.get_figheight())
    return figure


def error_over_time(errors: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Mean error of each frame by method.

    Args:
        errors: millimetres of frames 1..T by method.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for number, (method, values) in enumerate(errors.items()):
            frames = np.arange(1, len(values) + 1)
            look: dict[str, Any] = {
                "color": COLOURS[number % len(COLOURS)],
                "linestyle": DASHES[number % len(DASHES)],
                "marker": MARKERS[number % len(MARKERS)],
            }
            # Marks of different curves at different frames, so that none hides another.
            axes.plot(
                frames,
                values,
                label=method,
                markevery=(2 * number % 10, 10),
                linewidth=2.0 if number == 0 else 1.2,
                **look,
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("frame")
        axes.set_ylabel("mean error (mm)")
        axes.set_title(title)
        figure.legend(loc="outside right upper")
    return figure


def landmark_errors(face: np.ndarray, errors: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Mean error of each landmark, drawn on a face: colour and size of the dots; one panel per method, one scale for
    all.

    Args:
        face: (68, 3) metres.
        errors: 68 millimetres by method.

    Raises:
        ValueError: another number of errors.
    """
    for method, values in errors.items():
        if len(values) != NUM_LANDMARKS:
            raise ValueError(f"{method}: expected {NUM_LANDMARKS} errors, found {len(values)}")
    limits = limits_of(face, margin=0.08)
    largest = max(max(values) for values in errors.values())
    panel = 2.6
    height = panel * (limits[3] - limits[2]) / (limits[1] - limits[0])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(panel * len(errors) + 0.8, height + 0.6), layout="constrained")
        panels = figure.subplots(1, len(errors), squeeze=False)[0]
        for axes, (method, values) in zip(panels, errors.items()):
            draw_face(
                axes, face, dict.fromkeys(("jaw", "brows", "nose", "eyes", "mouth"), "#c4c4c4"), linewidth=0.8, dots=0
            )
            share = np.asarray(values) / max(largest, 1e-12)
            looks = {
                "cmap": "viridis_r",
                "vmin": 0,
                "vmax": largest,
                "edgecolors": "#333333",
                "linewidths": 0.4,
                "zorder": 3,
            }
            picture = axes.scatter(face[:, 0], face[:, 1], c=values, s=8 + 45 * share, **looks)
            bare(axes, limits)
            axes.set_xlabel(f"{method}, mean {np.mean(values):.2f} mm")
        bar = figure.colorbar(picture, ax=panels.tolist(), fraction=0.04, pad=0.02)
        bar.set_label("mean error (mm)")
        outline: Any = bar.outline
        outline.set_visible(False)
        figure.suptitle(title, fontsize=10)
    return figure


def principal_plane(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (D,), the two first principal directions (2, D), and their shares of the variance (2,), of features (N, D),
    N >= 3.

    The sign of a direction is such that its largest entry is positive.
    """
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    _, singular, directions = np.linalg.svd(features - mean, full_matrices=False)
    directions = directions[:2]
    directions *= np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])[:, None]
    return mean, directions, singular[:2] ** 2 / max(float((singular**2).sum()), 1e-300)


def feature_plane(
    features: Mapping[str, np.ndarray], labels: np.ndarray, names: Sequence[str], *, title: str = ""
) -> Figure:
    """The classifier's time-mean features in the plane of the two first principal components of all of them.

    Colour and marker tell the label; the first method's marks are filled, the second's open.

    Args:
        features: (N, D) by method, at most two methods.
        labels: (N,) class indices; names: of the classes.
    """
    mean, directions, shares = principal_plane(np.concatenate(list(features.values())))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for number, values in enumerate(features.values()):
            plane = (values - mean) @ directions.T  # (N, 2)
            for index in np.unique(labels):
                colour, marker = _mark(int(index))
                chosen = plane[labels == index]
                look: dict[str, Any] = {
                    "facecolors": colour if number == 0 else "none",
                    "edgecolors": colour,
                    "s": 26 if number == 0 else 70,
                }
                axes.scatter(chosen[:, 0], chosen[:, 1], marker=marker, linewidths=1.2, **look)
        handles = []
        for index in np.unique(labels):
            colour, marker = _mark(int(index))
            handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", label=names[index]))
        for number, method in enumerate(features):
            looks: dict[str, Any] = (
                {"markersize": 8.4, "markerfacecolor": "none"}
                if number
                else {"markersize": 5, "markerfacecolor": "#555555"}
            )
            handles.append(Line2D([], [], color="#555555", marker="o", linestyle="", label=method, **looks))
        figure.legend(handles=handles, loc="outside right upper")
        axes.set_xlabel(f"first principal component ({shares[0]:.0%} of the variance)")
        axes.set_ylabel(f"second ({shares[1]:.0%})")
        axes.set_title(title)
    return figure


def _mark(index: int) -> tuple[str, str]:
    """Colour and marker of a label; 49 different pairs."""
    return COLOURS[index % len(COLOURS)], MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]
