"""Pictures: GIFs of landmarks and of shaded meshes."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import data
import matplotlib.pyplot as plt
import numpy as np
from measure import Case, Size
from PIL import Image

from face4d.render.clay import render_sequence
from face4d.render.landmarks import landmark_gif
from face4d.render.media import write_gif

FRAMES = 40
_LIMIT = 0.12  # metres


def _matplotlib_gif(
    path: Path, draw: Callable[[Any, int], None], frames: int, dpi: int, inches: tuple[float, float]
) -> None:
    """A 3D figure per frame, saved as PNG, the PNGs joined to a GIF."""
    pictures = []
    for number in range(frames):
        figure = plt.figure(figsize=inches)
        axes = figure.add_subplot(projection="3d")
        draw(axes, number)
        axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT), zlim=(-_LIMIT, _LIMIT))
        axes.view_init(90, -90)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=dpi)
        plt.close(figure)
        pictures.append(Image.open(buffer).convert("RGB"))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40, loop=0)


def _one_figure_gif(path: Path, points: np.ndarray) -> None:
    """One 3D figure whose points are moved, read from its canvas at 100 dpi, the pictures joined to a GIF."""
    figure = plt.figure(figsize=(4.0, 4.0), dpi=100)
    axes = figure.add_subplot(projection="3d")
    dots = axes.scatter(*points[0].T)
    axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT), zlim=(-_LIMIT, _LIMIT))
    axes.view_init(90, -90)
    pictures = []
    canvas: Any = figure.canvas
    for frame in points:
        dots._offsets3d = tuple(frame.T)
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    plt.close(figure)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40, loop=0)


def landmark_pictures(size: Size) -> Case:
    folder, frames, few = Path(tempfile.mkdtemp(prefix="face4d-benchmark-")), size.of(FRAMES, 3), 4
    points = data.face_landmarks(frames)
    return Case(
        "GIF of 40 frames",
        lambda: landmark_gif(folder / "ours.gif", points, title="mouth-open"),
        lambda: _matplotlib_gif(
            folder / "plain.gif", lambda axes, n: axes.scatter(*points[n % frames].T), few, 300, (4.0, 4.0)
        ),
        frames / FRAMES,
        few / FRAMES,
        f"matplotlib, a new 3D figure per frame at 300 dpi, {few} frames scaled to 40",
        target=0.25,
        sensible=lambda: _one_figure_gif(folder / "sensible.gif", points),
        sensible_units=frames / FRAMES,
        sensible_is="matplotlib, one 3D figure whose points are moved, 100 dpi",
    )


def mesh_pictures(size: Size) -> Case:
    folder, frames, few = Path(tempfile.mkdtemp(prefix="face4d-benchmark-")), size.of(FRAMES, 2), 2
    vertices, faces = data.head_in_motion(frames)

    def draw(axes: Any, number: int) -> None:
        x, y, z = vertices[number].T
        axes.plot_trisurf(x, y, z, triangles=faces, color=(0.8, 0.65, 0.55))

    return Case(
        "GIF of 40 frames",
        lambda: write_gif(folder / "ours.gif", render_sequence(vertices, faces, size=64 if size.tiny else 512)),
        lambda: _matplotlib_gif(folder / "plain.gif", draw, few, 100, (5.12, 5.12)),
        frames / FRAMES,
        few / FRAMES,
        f"matplotlib plot_trisurf, {few} frames scaled to 40",
        target=1.5,
    )
