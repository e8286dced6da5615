"""Motions made while somebody watches: a wish in, a moving head out, ready to be played and downloaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from face4d.controls import NOT_GIVEN, GivenControls
from face4d.errors import InputError
from face4d.generation.sample import Generator
from face4d.generation.timeline import parse_timeline, play
from face4d.view.export import DenseFace, export_mesh
from face4d.view.glb import animated_glb
from face4d.view.looks import ShownHead, shown_head

__all__ = ["MOST_FRAMES", "LiveMotions", "Motion", "Wish"]

MOST_FRAMES = 1000  # of a motion that is made while somebody waits
_KEPT_MOTIONS, _KEPT_FACES = 24, 8  # of all visitors, the latest; 40 frames of 5,023 vertices take 5 MB


@dataclass(frozen=True)
class Wish:
    """What somebody wants to see.

    Attributes:
        generator, face: names that :class:`LiveMotions` knows.
        label: an expression of the generator; unused with a scene.
        frames: after the neutral one; None = as trained, of a scene to its last offset.
        intensity: factor on all displacements.
        controls: of a generator that follows them.
        seed: of its random numbers.
        drawn: whether an answer is drawn; else it is the typical one, where there is one.
        scene: a timeline, as CSV; None = one expression.
    """

    generator: str
    face: str
    label: str
    frames: int | None = None
    intensity: float = 1.0
    controls: GivenControls = NOT_GIVEN
    seed: int = 27
    drawn: bool = False
    scene: str | None = None


@dataclass(frozen=True)
class Motion:
    """A moving head.

    Attributes:
        label: what moves it.
        landmarks: (T + 1, 68, 3) metres.
        vertices: (T + 1, V, 3) metres, of the face's topology.
        face: what moves.
        shown: the head as it is drawn.
        fps: frames per second.
    """

    label: str
    landmarks: np.ndarray
    vertices: np.ndarray
    face: DenseFace
    shown: ShownHead
    fps: float
    _made: dict[float, bytes] = field(default_factory=dict, repr=False)

    def glb(self, speed: float = 1.0) -> bytes:
        """The content of a GLB file with the motion, ``speed`` times as fast; made once."""
        if speed not in self._made:
            shown, motions = self.shown, {self.label: self.shown.motions[0]}
            self._made[speed] = animated_glb(
                motions,
                shown.faces,
                neutral=shown.neutral,
                colors=shown.colours,
                fps=speed * self.fps,
                name=self.label,
            )
        return self._made[speed]

    def still(self, frame: int) -> bytes:
        """The content of a GLB file with one frame."""
        shown = self.shown
        return animated_glb({"still": shown.motions[0][[frame]]}, shown.faces, colors=shown.colours, name="still")

    def mp4(self, size: int) -> bytes:
        """The content of an MP4 file of ``size`` x ``size`` pixels."""
        face, shown = self.face, {"neutral": self.face.shown, "landmarks": self.landmarks, "fps": self.fps}
        with TemporaryDirectory() as folder:
            base = Path(folder, "video")
            how: dict[str, Any] = shown | {"colours": face.colours, "size": size}
            return export_mesh(base, self.label, self.vertices, face.faces, ("mp4",), **how)[0].read_bytes()


class LiveMotions:
    """Motions for any number of visitors, one made at a time; the latest are kept.

    Args:
        generator: of a name: that generator, whenever it is asked for.
        face: of the names of a generator and a face: that face, for that generator.
        fps: frames per second.

    Both functions may raise :class:`~face4d.errors.InputError`, which reaches the visitor as a line.

    Attributes:
        alone: a lock, held while something is made.
    """

    def __init__(
        self, generator: Callable[[str], Generator], face: Callable[[str, str], DenseFace], fps: float = 25
    ) -> None:
        self.generator, self.fps, self.alone = generator, fps, threading.RLock()
        # a face, and its colours by label: finding them takes longer than the motion
        self._face = lru_cache(_KEPT_FACES)(lambda *names: (face(*names), dict[str, np.ndarray]()))
        self._motion = lru_cache(_KEPT_MOTIONS)(self._make)

    def motion(self, wish: Wish) -> Motion:
        """The moving head that is wished for.

        Raises:
            InputError: a label or controls that cannot be, a timeline that cannot be read or a generator that plays
                none, a face that does not fit the generator, files that cannot be read.
        """
        with self.alone:
            return self._motion(wish)

    def _make(self, wish: Wish) -> Motion:
        generator = self.generator(wish.generator)
        face, colours = self._face(wish.generator, wish.face)
        label, moved = _displacements(generator, face.landmarks, wish)
        vertices = face.move(wish.intensity * moved)
        landmarks = face.moved_landmarks(wish.intensity * moved, vertices).astype(np.float32)
        painted = None if wish.scene else colours.get(label)
        shown = shown_head([vertices], face.faces, face.shown, face.colours, painted=painted)
        if wish.scene is None:
            colours[label] = shown.colours
        return Motion(label, landmarks, vertices, face, shown, self.fps)


def _displacements(generator: Generator, neutral: np.ndarray, wish: Wish) -> tuple[str, np.ndarray]:
    """What moves the face, and displacements (T + 1, 68, 3) in metres, before the factor."""
    if wish.frames is not None and not 1 <= wish.frames <= MOST_FRAMES:
        raise InputError("frames", f"1 to {MOST_FRAMES}", str(wish.frames))
    sample = 0 if wish.drawn or not generator.controlled else None
    if wish.scene is not None:
        scene = parse_timeline(wish.scene.encode(), "timeline", generator.labels, wish.frames or MOST_FRAMES)
        return "scene", play(generator, scene, neutral, wish.frames, seed=wish.seed, sample=sample)
    index = generator.label_index(wish.label)
    start = np.zeros((1, *neutral.shape), np.float32)
    how: dict[str, Any] = {"seed": wish.seed, "sample": sample, "controls": wish.controls}
    return generator.labels[index], generator.generate(start, np.array([index]), wish.frames, **how)[0]
