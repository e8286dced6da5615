"""Timelines: scenes of several expressions, one after the other or over each other, read from a CSV file and played by
a generator that follows controls.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from face4d.constants import LANDMARK_GROUPS
from face4d.controls import MOST_STRENGTH, Controls, smoothstep
from face4d.datasets.layout import canonical_label
from face4d.errors import InputError, nearest
from face4d.generation.sample import Generator
from face4d.runtime.files import read_bytes, require_name

TIMES = ("onset", "apex", "release", "offset")
COLUMNS = ("label", *TIMES, "strength", "region")
NEEDED = COLUMNS[:5]
MOST_ROWS = 1000
_MOST_BYTES = 1 << 20
_EXPECTED = "a timeline (CSV with the columns label,onset,apex,release,offset,strength,region)"
_SEPARATORS = {";": "semicolons", "\t": "tabs"}  # of other tables
_AT_ONCE = 64  # expressions generated at a time
_FEWEST = 12  # frames in which an expression is generated


@dataclass(frozen=True)
class Expression:
    """One row of a timeline.

    Attributes:
        label: an expression of the generator.
        controls: of this one motion, in frames from frame 0 of the scene.
        region: names of LANDMARK_GROUPS that move; none = the whole face.
    """

    label: str
    controls: Controls
    region: tuple[str, ...] = ()


def read_timeline(path: str | Path, labels: Sequence[str], last: int) -> tuple[Expression, ...]:
    """The expressions of a timeline, in the order of its rows.

    The file is UTF-8 text, values separated by commas. Its first line names the columns, in any order; ``strength`` and
    ``region`` may be left out or empty. Empty lines and lines that begin with # are passed over.

    Args:
        labels: those that the generator knows.
        last: frames are 0 to ``last``.

    Raises:
        InputError: an unreadable or too large file, no header, no rows, or a row that cannot be; with its line.
    """
    path = Path(path)
    return parse_timeline(read_bytes(path, _EXPECTED, most=_MOST_BYTES), path, labels, last)


def parse_timeline(content: bytes, path: str | Path, labels: Sequence[str], last: int) -> tuple[Expression, ...]:
    """The expressions of a timeline's content; ``path`` is what errors call it. See :func:`read_timeline`."""
    if len(content) > _MOST_BYTES:
        raise InputError(path, f"{_EXPECTED} of at most 1 MB", f"{len(content) / 2**20:.0f} MB")
    lines = _lines(content, path)
    number, header = next(lines, (1, []))
    columns = [name.lower() for name in header]
    place = f"{path}:{number}"
    missing = [name for name in NEEDED if name not in columns]
    if missing and (separator := next((mark for mark in _SEPARATORS if any(mark in name for name in header)), None)):
        raise InputError(place, f"commas between the columns {','.join(COLUMNS)}", _SEPARATORS[separator])
    if missing:
        raise InputError(place, f"the columns {','.join(COLUMNS)}", ",".join(header)[:80] or "an empty file")
    for name in columns:
        if name not in COLUMNS or columns.count(name) > 1:
            found = "twice" if name in COLUMNS else f"one more{nearest(name, COLUMNS)}"
            raise InputError(place, f"the columns {','.join(COLUMNS)}", f"{name[:40]!r} {found}")
    expressions: list[Expression] = []
    for number, row in lines:
        place = f"{path}:{number}"
        if any(row[len(columns) :]):
            raise InputError(place, f"{len(columns)} values, {','.join(columns)}", f"{len(row)}: {','.join(row)}")
        if len(expressions) == MOST_ROWS:
            raise InputError(place, f"at most {MOST_ROWS} expressions", "one more")
        values = dict(zip_longest(columns, row[: len(columns)], fillvalue=""))
        expressions.append(_expression(place, values, labels, last))
    if not expressions:
        raise InputError(path, "expressions", "none below the header")
    return tuple(expressions)


def scene_name(path: str | Path) -> str:
    """What a timeline's scene is called in the names of what is written, after its file.

    Raises:
        InputError: a file whose name is no name (:func:`face4d.runtime.files.is_name`).
    """
    return canonical_label(require_name(path, "a file name", Path(path).stem))


def timeline_text(expressions: Sequence[Expression]) -> str:
    """The timeline that :func:`read_timeline` reads as these expressions; numbers to six digits."""
    rows = [",".join(COLUMNS)]
    for expression in expressions:
        numbers = [f"{value:.6g}" for value in expression.controls.array()]
        rows.append(",".join([expression.label, *numbers, "+".join(expression.region)]))
    return "\n".join(rows) + "\n"


def _lines(content: bytes, path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Number and values of every line that says something."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, _EXPECTED, f"no UTF-8 text (at byte {error.start})") from None
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.lstrip().startswith("#"):
            continue
        try:
            row = [value.strip() for value in next(csv.reader([line.strip()], strict=True), [])]
        except csv.Error as error:
            raise InputError(f"{path}:{number}", "values separated by commas", f"{line.strip()} ({error})") from None
        if any(row):
            yield number, row


def _expression(place: str, row: dict[str, str], labels: Sequence[str], last: int) -> Expression:
    """The expression of a row; ``place`` names its line."""
    label = canonical_label(row["label"])
    if label not in labels:
        known = f"a label of the generator ({', '.join(labels)})"
        raise InputError(place, known, (row["label"] or "none") + nearest(label, labels))
    times = [_number(place, name, row[name], 0, last) for name in TIMES]
    onset, apex, release, offset = times
    if not (onset + 1 <= apex <= release <= offset - 1):
        order = "onset < apex <= release < offset, a frame or more from onset to apex and from release to offset"
        raise InputError(place, order, ", ".join(f"{name} {time:g}" for name, time in zip(TIMES, times)))
    strength = _number(place, "strength", row.get("strength") or "1", -MOST_STRENGTH, MOST_STRENGTH)
    names = row.get("region", "")
    region = tuple(dict.fromkeys(name.strip().lower() for name in names.split("+"))) if names else ()
    for name in region:
        if name not in LANDMARK_GROUPS:
            known = f"a region ({', '.join(LANDMARK_GROUPS)}, several with + between, empty for the whole face)"
            raise InputError(place, known, (name or "none beside a +") + nearest(name, LANDMARK_GROUPS))
    return Expression(label, Controls.of(np.array([*times, strength])), region)


def _number(place: str, name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        unit = "" if name == "strength" else ", frames of the scene (--frames)"
        raise InputError(place, f"{name}: a number from {low:g} to {high:g}{unit}", text or "none")
    return value


def play(
    generator: Generator,
    expressions: Sequence[Expression],
    neutral: np.ndarray,
    frames: int | None = None,
    **how: Any,
) -> np.ndarray:
    """The motion of a scene.

    Every expression i is generated over the training length (:func:`trained_controls`) and resampled to its own times
    (:func:`on_times`); that is its displacement d_i(t). Displacements are added, as in blendshape animation (Lewis et
    al., Practice and theory of blendshape facial models, Eurographics 2014), each landmark with the weight m_i of the
    expression's region (:func:`region_weights`):

        x(t) = sum_i m_i d_i(t) / crowding(u(t)),  u(t) = sum_i m_i e_i(t) min(|s_i|, 1),

    with envelope e_i, from 0 to 1, and strength s_i. Where expressions fade into each other over the same frames their
    envelopes sum to one, so that A becomes B without the neutral between. Where more than one whole expression is asked
    of a landmark, it gets their mean.

    Args:
        generator: one that follows controls.
        neutral: (L, 3) landmarks of the face, metres.
        frames: last frame of the scene; default that of the last offset.
        how: ``seed``, ``sample``, ``guidance`` of :meth:`~face4d.generation.sample.Generator.generate`.

    Returns:
        (frames + 1, L, 3) float32 displacements, metres; the face is neutral in frame 0, and where no expression is.

    Raises:
        InputError: the generator follows no controls.
    """
    controls = np.stack([expression.controls.array() for expression in expressions])  # (N, 5)
    if frames is None:
        frames = math.ceil(controls[:, 3].max())
    moved = np.zeros((frames + 1, *neutral.shape))
    asked = np.zeros(moved.shape[:2])  # u
    own = trained_controls(controls, max(generator.frames - 1, _FEWEST))
    indices = np.array([generator.label_index(expression.label) for expression in expressions])
    for first in range(0, len(expressions), _AT_ONCE):
        chunk = slice(first, first + _AT_ONCE)
        start = np.zeros((len(own[chunk]), *neutral.shape), np.float32)
        made = generator.generate(start, indices[chunk], int(own[0, 3]), controls=Controls.of(own[chunk]), **how)
        for expression, row, native, sequence in zip(expressions[chunk], controls[chunk], own[chunk], made):
            times = np.arange(math.ceil(row[0]), min(math.floor(row[3]), frames) + 1)
            weights = region_weights(neutral, expression.region, sequence)  # (L,)
            moved[times] += weights[:, None] * on_times(sequence, native[:4].astype(int), row[:4], times)
            asked[times] += weights * (envelope(row[:4], times) * min(abs(row[4]), 1))[:, None]
    return (moved / crowding(asked)[..., None]).astype(np.float32)


def trained_controls(controls: np.ndarray, last: int) -> np.ndarray:
    """Controls for frames 0 to ``last`` that give the phases of an expression in their own proportions.

    Args:
        controls: (N, 5) onset, apex, release, offset in frames of the scene; strength.

    Returns:
        (N, 5); times are whole frames, the offset is ``last``, and a flank has a sixth of the frames or more however
        long the hold is.
    """
    onset, apex, release, offset, strength = controls.T
    share, shortest = last / (offset - onset), last // 6
    rise = np.clip(np.rint(share * (apex - onset)), shortest, last - shortest)
    fall = np.clip(np.rint(share * (offset - release)), shortest, last - rise)
    fall = np.where(release > apex, fall, last - rise)
    return np.stack([np.zeros_like(rise), rise, last - fall, np.full_like(rise, last), strength], axis=1)


def on_times(sequence: np.ndarray, native: np.ndarray, wanted: np.ndarray, times: np.ndarray) -> np.ndarray:
    """An expression at other times: each phase (rise, hold, fall) on its own, by a cubic spline at rest at both ends.

    Flanks are smoothsteps, cubics at rest at both ends, so that they are met exactly however long they become, and the
    whole has no jump in speed. What is left of the expression at its end fades over the fall.

    Args:
        sequence: (T + 1, L, 3) displacements, metres.
        native: (4,) int onset, apex, release, offset in it.
        wanted: (4,) the same in the scene.
        times: (n,) frames of the scene, from the wanted onset to the wanted offset.

    Returns:
        (n, L, 3) metres.
    """
    from scipy.interpolate import CubicSpline  # a quarter of a second that only a scene needs

    result = np.zeros((len(times), *sequence.shape[1:]))
    for (first, last), (begin, end) in zip(pairwise(native.tolist()), pairwise(wanted.tolist())):
        inside = (begin < times) & (times <= end)
        part = sequence[first : last + 1].astype(np.float64)
        if last == native[3]:
            part -= smoothstep(np.linspace(0, 1, len(part)))[:, None, None] * part[-1]
        if len(part) > 1 and inside.any():
            share = (times[inside] - begin) / (end - begin)
            result[inside] = CubicSpline(np.arange(len(part)), part, bc_type="clamped")(share * (last - first))
        else:
            result[inside] = part[0]
    return result


def envelope(wanted: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(n,) how much of an expression with onset, apex, release, offset (4,) is there at times (n,): 0 to 1."""
    onset, apex, release, offset = wanted
    rise, fall = (times - onset) / (apex - onset), (offset - times) / (offset - release)
    return smoothstep(np.minimum(rise, fall).clip(0, 1))


def region_weights(neutral: np.ndarray, region: Sequence[str], sequence: np.ndarray) -> np.ndarray:
    """(L,) how much each landmark moves with an expression of a region: 1 in it, and beside it what keeps the skin
    between from tearing.

    With D_i the largest displacement of landmark i of the region, and d_ij its distance from landmark j outside on the
    neutral face, w_j = S(max_i D_i / d_ij), S the smoothstep up to 1. Were j to stay, the skin between would be
    stretched or compressed by D_i / d_ij; so what is far stays, and a chin goes along with a mouth that opens. Where
    both would move alike, what is left of that strain, r (1 - S(r)), is 0.26 at most.

    Args:
        neutral: (L, 3) landmarks, metres.
        region: names of LANDMARK_GROUPS; none = all landmarks.
        sequence: (T + 1, L, 3) displacements of the expression, metres.
    """
    if not region:
        return np.ones(len(neutral))
    within = np.concatenate([np.arange(len(neutral))[LANDMARK_GROUPS[name]] for name in region])
    largest = np.linalg.norm(sequence[:, within], axis=2).max(axis=0)  # (R,)
    distances = np.linalg.norm(neutral[:, None] - neutral[None, within], axis=2)  # (L, R)
    strain = (largest / np.maximum(distances, 1e-6)).max(axis=1)
    weights = smoothstep(strain.clip(0, 1))
    weights[within] = 1
    return weights


def crowding(asked: np.ndarray) -> np.ndarray:
    """What sums of expressions are divided by, of how many whole ones are asked for, u: 1 up to one of them, u from two
    on, and between the cubic that joins both without a kink, 1 + 2 h^2 - h^3 with h = u - 1.

    A sum of equal displacements, u / crowding(u), is never more than 1.13 times one of them.
    """
    over = np.clip(asked - 1, 0, 1)
    return np.where(asked < 2, 1 + over * over * (2 - over), asked)
