"""Figures in one style: colour-blind safe, readable in print, written as PNG and PDF.

Uses matplotlib's objects, never pyplot: no global figure, backend or random state is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from face4d.runtime.atomic import replacing

Dash: TypeAlias = Literal["-", "--", "-.", ":"]
STYLE = dict(matplotlib.rc_params_from_file(Path(__file__).with_name("face4d.mplstyle"), use_default_template=False))
COLOURS: tuple[str, ...] = tuple(entry["color"] for entry in STYLE["axes.prop_cycle"])
DASHES: tuple[Dash, ...] = ("-", "--", "-.", ":")
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X")


def save_figure(figure: Figure, base: str | Path) -> list[Path]:
    """Write ``<base>.png`` and ``<base>.pdf``, each whole or not at all; returns the two paths."""
    base = Path(base)
    paths = [base.with_name(f"{base.name}.{suffix}") for suffix in ("png", "pdf")]
    for path, metadata in zip(paths, ({"Software": None}, {"CreationDate": None, "Creator": None, "Producer": None})):
        with replacing(path) as temporary, matplotlib.rc_context(STYLE):
            figure.savefig(temporary, format=path.suffix[1:], bbox_inches="tight", metadata=metadata)
    return paths


def confusion_matrix_figure(matrix: np.ndarray, labels: Sequence[str], *, title: str = "") -> Figure:
    """Confusion matrix, rows true and columns predicted, coloured by the share of each row, counts written in.

    Args:
        matrix: (C, C) counts; labels: C names.

    Raises:
        ValueError: shapes that do not fit.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(labels), len(labels)):
        raise ValueError(f"expected ({len(labels)}, {len(labels)}) counts, found {matrix.shape}")
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.34 * len(labels)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(side + 0.6, side))
        axes = figure.add_subplot()
        picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        ticks = range(len(labels))
        axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, labels)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(title)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="both", length=0)
        for row, column in np.argwhere(matrix > 0):
            ink = "white" if share[row, column] > 0.55 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=ink)
        bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03)
        bar.set_label("share of the true label")
        outline: Any = bar.outline
        outline.set_visible(False)
    return figure
