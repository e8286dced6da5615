"""Figures of scores: error over time, error on the face, classifier features in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from face4d.constants import NUM_LANDMARKS
from face4d.view.plots import COLOURS, DASHES, MARKERS, STYLE
from face4d.view.strips import bare, draw_face, limits_of


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
            look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)], "marker": MARKERS[number % len(MARKERS)]}
            # Marks of different curves at different frames, so that none hides another.
            axes.plot(frames, values, label=method, markevery=(2 * number % 10, 10), linewidth=2.0 if number == 0 else 1.2, **look)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("frame")
        axes.set_ylabel("mean error (mm)")
        axes.set_title(title)
        figure.legend(loc="outside right upper")
    return figure


def landmark_errors(face: np.ndarray, errors: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Mean error of each landmark, drawn on a face: colour and size of the dots; one panel per method, one scale for all.

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
            draw_face(axes, face, dict.fromkeys(("jaw", "brows", "nose", "eyes", "mouth"), "#c4c4c4"), linewidth=0.8, dots=0)
            share = np.asarray(values) / max(largest, 1e-12)
            looks = {"cmap": "viridis_r", "vmin": 0, "vmax": largest, "edgecolors": "#333333", "linewidths": 0.4, "zorder": 3}
            picture = axes.scatter(face[:, 0], face[:, 1], c=values, s=8 + 45 * share, **looks)
            bare(axes, limits)
            axes.set_xlabel(f"{method}, mean {np.mean(values):.2f} mm")
        bar = figure.colorbar(picture, ax=panels.tolist(), fraction=0.04, pad=0.02)
        bar.set_label("mean error (mm)")
        bar.outline.set_visible(False)
        figure.suptitle(title, fontsize=10)
    return figure


def principal_plane(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (D,), the two first principal directions (2, D), and their shares of the variance (2,), of features (N, D), N >= 3.

    The sign of a direction is such that its largest entry is positive.
    """
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    _, singular, directions = np.linalg.svd(features - mean, full_matrices=False)
    directions = directions[:2]
    directions *= np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])[:, None]
    return mean, directions, singular[:2] ** 2 / max(float((singular**2).sum()), 1e-300)


def feature_plane(features: Mapping[str, np.ndarray], labels: np.ndarray, names: Sequence[str], *, title: str = "") -> Figure:
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
                look: dict[str, Any] = {"facecolors": colour if number == 0 else "none", "edgecolors": colour, "s": 26 if number == 0 else 70}
                axes.scatter(chosen[:, 0], chosen[:, 1], marker=marker, linewidths=1.2, **look)
        handles = []
        for index in np.unique(labels):
            colour, marker = _mark(int(index))
            handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", label=names[index]))
        for number, method in enumerate(features):
            looks: dict[str, Any] = {"markersize": 8.4, "markerfacecolor": "none"} if number else {"markersize": 5, "markerfacecolor": "#555555"}
            handles.append(Line2D([], [], color="#555555", marker="o", linestyle="", label=method, **looks))
        figure.legend(handles=handles, loc="outside right upper")
        axes.set_xlabel(f"first principal component ({shares[0]:.0%} of the variance)")
        axes.set_ylabel(f"second ({shares[1]:.0%})")
        axes.set_title(title)
    return figure


def _mark(index: int) -> tuple[str, str]:
    """Colour and marker of a label; 49 different pairs."""
    return COLOURS[index % len(COLOURS)], MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]
