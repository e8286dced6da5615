"""The page of the live viewer: what one visitor sees and steers, as controls and a scene of viser."""

from __future__ import annotations

import io
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from face4d.controls import NOT_GIVEN, GivenControls
from face4d.errors import InputError, printable
from face4d.generation.timeline import parse_timeline
from face4d.view.live import MOST_FRAMES, LiveMotions, Motion, Wish
from face4d.view.live_timeline import Timeline, times_slider

__all__ = ["Offer", "Page", "camera_distance", "set_theme"]

log = logging.getLogger(__name__)

ONE, SCENE = "one expression", "timeline"
SPEEDS = {"quarter": 0.25, "half": 0.5, "normal": 1.0, "double": 2.0}
MOST_UPLOADED = 64 << 20  # bytes of a file from a visitor
NARROW = 700  # pixels of a window in which the panel would hide the face
FIELD_OF_VIEW = 30.0  # degrees, from top to bottom
SHOWN = 2.7  # heights of the landmarks, from top to bottom of the window
_ABOVE = 0.45  # of a narrow window, which the face has for itself
_OVERLAP = 0.3  # seconds that a head stays while the next one is being built


@dataclass(frozen=True)
class Offer:
    """What a visitor finds.

    Attributes:
        generators: names that ``live`` knows, the first is shown.
        faces: likewise.
        first: the wish that a page opens with.
        photo: makes a face of a photo: of the name of a generator, of a file and its content, the name of the face.
        command: what one types for a wish, a line for every flag.
        size: side of videos, pixels.
    """

    generators: Sequence[str]
    faces: Sequence[str]
    first: Wish
    photo: Callable[[str, str, bytes], str]
    command: Callable[[Wish], str]
    size: int = 512


class Page:
    """What one visitor sees. Changes are taken up by a thread of its own: of many in a row only the last is made.

    Args:
        client: viser's handle of the visitor.
        live: makes the motions.
        offer: what there is to choose from.
    """

    def __init__(self, client: Any, live: LiveMotions, offer: Offer) -> None:
        self.client, self.gui, self.live, self.offer = client, client.gui, live, offer
        self.faces = list(offer.faces)
        self.motion: Motion | None = None  # what is in the window, its node of the scene, since when, whether it plays
        self.node, self.began, self.playing = None, 0.0, True
        self._changed, self._left = threading.Event(), False
        with client.atomic():
            self._build()
        self._look()
        self._changed.set()
        threading.Thread(target=self._keep_up, daemon=True).start()

    def leave(self) -> None:
        """End the page's thread."""
        self._left = True
        self._changed.set()

    # What is on the panel, from top to bottom.

    def _build(self) -> None:
        gui, first = self.gui, self.offer.first
        self.status, self.trouble = gui.add_markdown("..."), gui.add_markdown("", visible=False)
        with gui.add_folder("Face"):
            self.face = gui.add_dropdown("Face", self.faces, initial_value=first.face)
            self.upload = gui.add_upload_button(
                "From a photo", mime_type="image/*", hint="A head is fitted to the face in it"
            )
        with gui.add_folder("Motion"):
            self.generator = gui.add_dropdown("Generator", self.offer.generators, initial_value=first.generator)
            what = ONE if first.scene is None else SCENE
            self.what = gui.add_dropdown("Play", (ONE, SCENE), initial_value=what)
            self._build_expression()
            self.typical = gui.add_checkbox("Typical", not first.drawn, hint="Else one of many, drawn with the seed")
            self.seed = gui.add_number("Seed", first.seed, min=0, max=2**32 - 1, step=1)
        self.timeline = Timeline(gui, self._ask)
        if first.scene is not None:
            self.timeline.length.value = first.frames or 0
            labels = self._labels()
            self.timeline.show(parse_timeline(first.scene.encode(), "timeline", labels, MOST_FRAMES), labels)
        with gui.add_folder("Time"):
            self.play = gui.add_button("Pause")
            self.speed = gui.add_dropdown("Speed", tuple(SPEEDS), initial_value="normal")
            self.frame = gui.add_slider("Frame", 0, 40, 1, 0, visible=False)
        with gui.add_folder("Download"):
            self.download = gui.add_button_group("File", ("GLB", "MP4", "npy", "CSV"), hint="CSV: the timeline")
            self.command = gui.add_markdown("")
        self.dark = gui.add_checkbox("Dark", False)
        shown = (self.face, self.generator, self.what, self.label, self.frames, self.strength, self.timed, self.times)
        for control in (*shown, self.typical, self.seed, self.timeline.length, self.speed, self.frame):
            control.on_update(self._on_change)
        self.dark.on_update(lambda _: set_theme(self.gui, dark=self.dark.value))
        self.upload.on_upload(self._on_photo)
        self.timeline.add.on_click(self._on_add)
        self.timeline.read.on_upload(self._on_timeline)
        self.play.on_click(self._on_play)
        self.download.on_click(self._on_download)

    def _build_expression(self) -> None:
        gui, first = self.gui, self.offer.first
        self.label = gui.add_dropdown("Expression", (first.label,), initial_value=first.label)
        last = first.frames or self.live.generator(first.generator).frames - 1
        self.frames = gui.add_number("Frames", last, min=1, max=MOST_FRAMES, step=1)
        self.strength = gui.add_slider("Strength", -1.0, 2.0, 0.05, 1.0)
        self.timed = gui.add_checkbox("My timing", False, hint="Else as in the label's training sequences")
        self.times = times_slider(gui, last, (0.05 * last, 0.4 * last, 0.6 * last, 0.95 * last))

    # What visitors do. Values that this page sets itself come without a client.

    def _on_change(self, event: Any) -> None:
        if event.client is not None:
            self._ask()

    def _ask(self) -> None:
        self.trouble.visible = False
        self._changed.set()

    def _on_play(self, _: Any) -> None:
        if self.playing and self.motion is not None:
            gone = (time.monotonic() - self.began) * self.motion.fps * SPEEDS[self.speed.value]
            self.frame.value = int(gone) % max(len(self.motion.landmarks) - 1, 1)
        self.playing = not self.playing
        self.play.label = "Pause" if self.playing else "Play"
        self.frame.visible = not self.playing
        self._changed.set()

    def _on_add(self, _: Any) -> None:
        self._do(lambda: self.timeline.append(self.label.value, self._labels()))

    def _on_photo(self, event: Any) -> None:
        def take() -> None:
            content = _checked(event.target.value)
            self.status.content = "Fitting a face to the photo ..."
            with self.live.alone:
                name = self.offer.photo(self.generator.value, event.target.value.name, content)
            self.faces.append(name)
            self.face.options = tuple(self.faces)
            self.face.value = name

        self._do(take)

    def _on_timeline(self, event: Any) -> None:
        def take() -> None:
            name, labels = printable(event.target.value.name), self._labels()
            self.timeline.show(parse_timeline(_checked(event.target.value), name, labels, MOST_FRAMES), labels)

        self._do(take)

    def _on_download(self, _: Any) -> None:
        what, motion = self.download.value, self.motion

        def send() -> None:
            if what == "CSV":
                name, content = "timeline.csv", self.timeline.text().encode()
            elif motion is None:
                return
            elif what == "npy":
                file = io.BytesIO()
                np.save(file, motion.landmarks)
                name, content = f"{motion.label}.npy", file.getvalue()
            elif what == "GLB":
                name, content = f"{motion.label}.glb", motion.glb()
            else:
                self.status.content = "Drawing the video ..."
                name, content = f"{motion.label}.mp4", motion.mp4(self.offer.size)
                self._tell(motion)
            self.client.send_file_download(name, content, save_immediately=True)

        self._said(send)

    # What follows.

    def _labels(self) -> tuple[str, ...]:
        return self.live.generator(self.generator.value).labels

    def _fit(self) -> None:
        """Controls that the chosen generator has, its labels, and times within the frames."""
        generator, one = self.live.generator(self.generator.value), self.what.value == ONE
        if tuple(self.label.options) != generator.labels:
            wanted = self.label.value
            self.label.options = generator.labels
            self.label.value = wanted if wanted in generator.labels else generator.labels[0]
        for control in (self.label, self.frames, self.strength):
            control.visible = one
        self.timed.visible = self.times.visible = one and generator.controlled
        self.times.disabled = not self.timed.value
        self.typical.visible = generator.controlled
        self.seed.visible = generator.controlled or generator.stochastic
        self.timeline.folder.visible = not one
        if not one and self.timeline.is_empty() and generator.controlled:
            self.timeline.append(self.label.value, generator.labels)
        last = float(self.frames.value)
        if self.times.max != last:
            times = tuple(round(2 * last * time / self.times.max) / 2 for time in self.times.value)
            self.times.max = max(self.times.max, last)  # a value has to be within at all times
            self.times.value, self.times.max = times, last

    def wish(self) -> Wish:
        """What the panel says."""
        generator = self.live.generator(self.generator.value)
        one = self.what.value == ONE
        frames, strength = int(self.frames.value), float(self.strength.value)
        controls = NOT_GIVEN if strength == 1 else GivenControls(strength=strength)
        if self.timed.value:
            onset, apex, release, offset = self.times.value
            controls = GivenControls(onset, apex, release - apex, offset, controls.strength)
        return Wish(
            self.generator.value,
            self.face.value,
            self.label.value,
            frames if one else int(self.timeline.length.value) or None,
            intensity=strength if one and not generator.controlled else 1.0,
            controls=controls if one and generator.controlled else NOT_GIVEN,
            seed=int(self.seed.value) if generator.controlled or generator.stochastic else self.offer.first.seed,
            drawn=generator.controlled and not self.typical.value,
            scene=None if one else self.timeline.text(),
        )

    def _keep_up(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            if self._left:
                return
            self._said(self._show)

    def _do(self, work: Callable[[], None]) -> None:
        """Do what the visitor asked for, and show what follows from it."""
        self.trouble.visible = False
        self._said(work)
        self._changed.set()

    def _said(self, work: Callable[[], None]) -> None:
        """Do something; what is wrong with it is told on the panel, until the visitor changes something."""
        try:
            work()
        except InputError as error:
            self._complain(str(error))
        except Exception:
            if not self._left:  # else the visitor went away in the middle of it
                self._complain("This failed; the terminal says more.")
                log.exception("a wish of the viewer failed")

    def _complain(self, text: str) -> None:
        self.trouble.content = f"**{_plain(text)}**"
        self.trouble.visible = True

    def _show(self) -> None:
        self._fit()
        wish, begun = self.wish(), time.monotonic()
        motion = self.live.motion(wish)
        last = len(motion.landmarks) - 1
        if self.frame.max != last:
            self.frame.value = min(self.frame.value, last)
            self.frame.max = last
        self._put(
            motion.glb(SPEEDS[self.speed.value]) if self.playing else motion.still(min(self.frame.value, last)), motion
        )
        self._tell(motion, time.monotonic() - begun)
        command = "\n".join(map(printable, self.offer.command(wish).splitlines()))
        self.command.content = f"Makes the same:\n```\n{command}\n```"

    def _put(self, content: bytes, motion: Motion) -> None:
        """Show a head; the one before stays until it is there."""
        rest = motion.landmarks[0]
        size = 1 / np.ptp(rest[:, 1])
        place = -size * (rest.min(axis=0) + rest.max(axis=0)) / 2
        name, before = f"/faces/{time.monotonic_ns()}", self.node
        self.node = self.client.scene.add_glb(name, content, scale=float(size), position=place, cast_shadow=False)
        self.motion, self.began = motion, time.monotonic()
        if before is not None:
            threading.Timer(_OVERLAP, _remove, [before]).start()

    def _tell(self, motion: Motion, seconds: float | None = None) -> None:
        last, vertices = len(motion.landmarks) - 1, motion.shown.faces.max() + 1
        words = [f"**{_plain(motion.label)}**: {last} frames, {last / motion.fps:.1f} s", f"{vertices} vertices"]
        words += [f"made in {seconds:.1f} s"] if seconds else []
        self.status.content = ", ".join(words)

    def _look(self) -> None:
        """The panel beside the face; in a narrow window, where viser lays it over the lower part, the face above it."""
        camera = self.client.camera
        if camera.image_width >= NARROW:
            self.gui.main_panel.dock_right()
            return
        height = SHOWN / _ABOVE
        camera.position = (0.0, 0.0, camera_distance(height))
        camera.look_at = (0.0, (_ABOVE - 1) * height / 2, 0.0)  # after the position, which takes it along


def camera_distance(height: float) -> float:
    """Of a camera that shows so much from top to bottom."""
    return height / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", printable(text))


def set_theme(gui: Any, *, dark: bool = False) -> None:
    """Light or dark, without what leads to viser's own pages."""
    gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=dark)


def _checked(file: Any) -> bytes:
    """The content of an uploaded file."""
    if len(file.content) > MOST_UPLOADED:
        raise InputError(printable(file.name), f"at most {MOST_UPLOADED >> 20} MB", f"{len(file.content) >> 20} MB")
    return bytes(file.content)


def _remove(node: Any) -> None:
    with suppress(Exception):  # the visitor may have gone
        node.remove()
