"""Six-frame strips: the ground truth above what was generated, in the same axes and limits."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from face4d.constants import LANDMARK_GROUPS, LANDMARK_LINES, MM_PER_METRE
from face4d.view.plots import STYLE

FRAMES = 6
# The colours of landmark_view: jaw in dark grey, then Okabe and Ito.
GROUP_COLOURS: dict[str, str] = {"jaw": "#5a5a5a", "brows": "#CC79A7", "nose": "#009E73", "eyes": "#0072B2", "mouth": "#D55E00"}
_GROUP_OF = [name for name, group in LANDMARK_GROUPS.items() for _ in range(group.start, group.stop)]  # of each landmark
_PALE = dict.fromkeys(GROUP_COLOURS, "#d8d8d8")


def draw_face(axes: Axes, points: np.ndarray, colours: dict[str, str] = GROUP_COLOURS, *, linewidth: float = 1.0, dots: float = 2.0) -> None:
    """Front view of 68 landmarks as lines and dots.

    Args:
        points: (68, 2 or 3) metres; x to the right, y up.
        colours: by landmark group.
        dots: area of a landmark's dot in points squared, 0 = none.
    """
    shades = [colours[name] for name in _GROUP_OF]
    lines = [points[list(line), :2] for line in LANDMARK_LINES]
    strokes = LineCollection(lines, colors=[shades[line[0]] for line in LANDMARK_LINES], linewidths=linewidth, capstyle="round")
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


def strip(real: np.ndarray, generated: np.ndarray, *, title: str = "", frames: int = FRAMES) -> Figure:
    """Frames at equal distances from first to last, ground truth above, generated below, the first frame in grey behind.

    Args:
        real, generated: (T, 68, 3) metres, of equal length.

    Raises:
        ValueError: different shapes.
    """
    if real.shape != generated.shape:
        raise ValueError(f"expected two sequences of one shape, found {real.shape} and {generated.shape}")
    chosen = np.linspace(0, len(real) - 1, min(frames, len(real))).round().astype(int)
    limits = limits_of(real, generated)
    panel = 1.15
    height = panel * (limits[3] - limits[2]) / (limits[1] - limits[0])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.3 + panel * len(chosen), 0.75 + 2 * height))
        panels = figure.subplots(2, len(chosen), squeeze=False)
        figure.subplots_adjust(left=0.3 / figure.get_figwidth(), right=1, bottom=0.2 / figure.get_figheight(), top=1 - 0.5 / figure.get_figheight())
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
