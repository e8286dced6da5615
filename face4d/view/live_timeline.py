"""The timeline on the panel of the live viewer: a row for every expression, read from and written as CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from face4d.constants import LANDMARK_GROUPS
from face4d.controls import Controls
from face4d.errors import InputError
from face4d.generation.timeline import Expression, timeline_text
from face4d.view.live import MOST_FRAMES

__all__ = ["Timeline", "times_slider"]

WHOLE_FACE = "whole face"
_NEXT = (0.0, 20.0, 30.0, 50.0)  # onset, apex, release and offset of another expression, from the last one's release
_MOST_ROWS = 100
_SHORTEST = 300.0  # frames that the sliders of a row cover


def times_slider(gui: Any, last: float, times: Sequence[float]) -> Any:
    """A slider of viser's ``gui`` for onset, apex, release and offset in frames 0 to ``last``."""
    rounded = tuple(float(round(time, 6)) for time in times)
    hint = "Frames: where the face leaves neutral, arrives, leaves the apex, is neutral again"
    return gui.add_multi_slider("Onset to offset", 0.0, float(last), 0.5, rounded, min_range=0.0, hint=hint)


@dataclass
class _Row:
    """The controls of one expression."""

    folder: Any
    label: Any
    times: Any
    strength: Any
    region: Any

    @property
    def title(self) -> str:
        return f"{self.label.value}, {self.times.value[0]:g} to {self.times.value[3]:g}"

    def expression(self) -> Expression:
        region = () if self.region.value == WHOLE_FACE else tuple(self.region.value.split("+"))
        return Expression(self.label.value, Controls.of(np.array([*self.times.value, self.strength.value])), region)


class Timeline:
    """A folder with the rows of a timeline, on the panel of one visitor.

    Args:
        gui: viser's, of the visitor.
        changed: called when the visitor changes something.

    Attributes:
        folder: the whole of it.
        length: a number, the last frame; 0 = the last offset.
        add, read: buttons for one more expression, and for a file.
    """

    def __init__(self, gui: Any, changed: Callable[[], None]) -> None:
        self._gui, self._changed, self._rows = gui, changed, list[_Row]()
        self.folder = gui.add_folder("Timeline")
        with self.folder:
            self.length = gui.add_number("Frames", 0, min=0, max=MOST_FRAMES, step=1, hint="0: to the last offset")
            self.add = gui.add_button("Add an expression")
            self.read = gui.add_upload_button("Read a CSV", mime_type=".csv")

    def text(self) -> str:
        """The rows as CSV."""
        return timeline_text([row.expression() for row in tuple(self._rows)])

    def is_empty(self) -> bool:
        """Whether there are no rows."""
        return not self._rows

    def show(self, expressions: Sequence[Expression], labels: Sequence[str]) -> None:
        """Rows for these expressions in place of those that are there; ``labels`` are those to choose from.

        Raises:
            InputError: more than a panel can show.
        """
        if len(expressions) > _MOST_ROWS:
            raise InputError("timeline", f"at most {_MOST_ROWS} expressions on the panel", str(len(expressions)))
        while self._rows:
            self._rows.pop().folder.remove()
        for expression in expressions:
            self._append(expression, labels)

    def append(self, label: str, labels: Sequence[str]) -> None:
        """One more expression, from where the last one leaves.

        Raises:
            InputError: it would end beyond the last frame that a timeline may have.
        """
        begin = self._rows[-1].times.value[2] if self._rows else 0.0
        if begin + _NEXT[-1] > MOST_FRAMES:
            raise InputError("timeline", f"at most {MOST_FRAMES} frames", f"{begin + _NEXT[-1]:g}")
        times = begin + np.array(_NEXT)
        self._append(Expression(label, Controls.of(np.array([*times, 1.0]))), labels)

    def _append(self, expression: Expression, labels: Sequence[str]) -> None:
        gui, (*times, strength) = self._gui, expression.controls.array().tolist()
        region = "+".join(expression.region) or WHOLE_FACE
        regions = tuple(dict.fromkeys((WHOLE_FACE, *LANDMARK_GROUPS, region)))
        with self.folder:
            folder = gui.add_folder("", expand_by_default=False)
        with folder:
            label = gui.add_dropdown("Expression", tuple(labels), initial_value=expression.label)
            bars = times_slider(gui, min(max(_SHORTEST, 1.5 * times[3]), MOST_FRAMES), times)
            power = gui.add_slider("Strength", min(-1.0, strength), max(2.0, strength), 0.05, strength)
            where = gui.add_dropdown("Where", regions, initial_value=region)
            remove = gui.add_button("Remove")
        row = _Row(folder, label, bars, power, where)
        folder.label = row.title

        def change(_: Any) -> None:
            folder.label = row.title
            self._changed()

        def leave(_: Any) -> None:
            if row in self._rows:
                self._rows.remove(row)
                folder.remove()
            self._changed()

        for control in (label, bars, power, where):
            control.on_update(change)
        remove.on_click(leave)
        self._rows.append(row)
