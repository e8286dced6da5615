"""The demo head drawn finer than its data: a mesh of level 0 carried over to level 1, whose skin is smoother and whose
teeth are single ones.

The neutral face is the formula's: the identity weights that fit the coarse one best, evaluated on the fine head. What
is left over, and all motion, is carried by one linear operator: vertices of the skin that both levels have keep their
own displacement, new ones get the mean of their neighbours' (they lie in the middle of edges), and each eyeball and row
of teeth moves by the affine map of its coarse vertices, so as a rigid body where they do. What that misses where the
skin is strongly bent, at corners of the mouth and at lids, is learned from the action units by ridge regression. Teeth
and the inside of the mouth that would stick out of the skin, as sucked-in cheeks of narrow faces make them in the data,
are held back behind it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse

from face4d.constants import COMA_LABELS, FLORENCE_LABELS
from face4d.demo.expressions import ACTION_UNITS, deform, weights_of
from face4d.demo.head import EYE, POCKET, SKIN, TEETH, DemoHead, demo_head
from face4d.demo.surface import MOUTH_Q
from face4d.demo.topology import half_head

__all__ = ["BACK", "BEHIND", "FinerHead", "finer_head"]

_STRENGTH = 1e-8  # of the ridge regression, square metres
BEHIND, BACK = 5e-4, 2.5  # metres, teeth nearer to the skin before them go back; by so much of what is too near
_UNIT_WEIGHTS, _LABEL_WEIGHTS = (0.6, 1.2), (0.4, 0.75, 1.1)  # of what it learns from


class FinerHead:
    """Meshes of level 0 as meshes of level 1; see the module.

    Attributes:
        head: the fine head; its triangles are those of the results.
        teeth: (2 R C,) its vertices of both rows of teeth, R times C each.
        columns: C.
        pocket: (P,) its vertices of the inside of the mouth that can stick out.
        cheeks: (M, 3) triangles that hold them back.
    """

    def __init__(self) -> None:
        self.coarse, self.head = demo_head(0), demo_head(1)
        self._operator = _operator(self.coarse, self.head)  # (V', V)
        poses = _poses()
        self._seen, moved = (
            np.stack([deform(head, head.mean, pose) - head.mean for pose in poses]) for head in (self.coarse, self.head)
        )  # (N, V, 3), (N, V', 3)
        missed = (moved - self.spread(self._seen)).reshape(len(poses), -1)
        self._seen = self._seen.reshape(len(poses), -1)
        gram = self._seen @ self._seen.T
        skin = (self.head.kind == SKIN) & (self.head.p < 85) & (np.abs(self.head.q - MOUTH_Q) < 42)
        self.cheeks = self.head.faces[skin[self.head.faces].all(axis=1)]
        self.pocket = np.flatnonzero((self.head.kind == POCKET) & (self.head.inner[:, 2] > 0.1))
        self.teeth = np.flatnonzero(self.head.kind == TEETH)
        self.columns = int(np.unique(self.head.p[self.teeth].round(6)).size) * 2 - 1
        self._missed = np.linalg.solve(gram + _STRENGTH * np.eye(len(poses)), missed)  # (N, 3 V')

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values (..., V, C) of the coarse vertices at the fine ones, (..., V', C)."""
        columns = np.moveaxis(values, -2, 0)
        spread = self._operator @ columns.reshape(len(columns), -1)
        return np.moveaxis(spread.reshape(-1, *columns.shape[1:]), 0, -2)

    def neutral(self, neutral: np.ndarray) -> np.ndarray:
        """The fine neutral face (V', 3) of a coarse one (V, 3), metres."""
        modes = self.coarse.modes.reshape(len(self.coarse.modes), -1)
        shape = neutral - self.coarse.mean
        weights = np.linalg.lstsq(modes.T, shape.ravel(), rcond=None)[0]
        return self.head.neutral(weights) + self.spread(shape - np.tensordot(weights, self.coarse.modes, axes=1))

    def move(self, frames: np.ndarray, neutral: np.ndarray) -> np.ndarray:
        """Fine frames (T, V', 3) of coarse ones (T, V, 3) of the face ``neutral`` (V, 3), metres."""
        fine = self.carry(frames, neutral)
        for frame in fine:
            self.hold_back(frame)
        return fine

    def carry(self, frames: np.ndarray, neutral: np.ndarray) -> np.ndarray:
        """:meth:`move` without :meth:`hold_back`: linear in how the frames differ from ``neutral``."""
        moved = frames - neutral
        learned = (moved.reshape(len(moved), -1) @ self._seen.T) @ self._missed
        return self.neutral(neutral) + self.spread(moved) + learned.reshape(len(moved), -1, 3)

    def hold_back(self, frame: np.ndarray) -> None:
        """Put teeth and the inside of the mouth of a fine frame (V', 3), metres, behind the skin; in place. The page of
        moving heads does the same in web/data.js.
        """
        teeth = frame[self.teeth]
        out = np.maximum(teeth[:, 2] + BEHIND - _depth_in_front(teeth, frame[self.cheeks]), 0)
        columns = out.reshape(2, -1, self.columns)  # a row of teeth is a band of columns
        columns[:] = columns.max(axis=1, keepdims=True)
        frame[self.teeth, 2] -= BACK * out
        pocket = frame[self.pocket]
        out = pocket[:, 2] + BEHIND - _depth_in_front(pocket, frame[self.cheeks])
        frame[self.pocket, 2] -= BACK * np.maximum(out, 0)


@lru_cache(maxsize=1)
def finer_head() -> FinerHead:
    """The one there is; made in half a second, once."""
    return FinerHead()


def _depth_in_front(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The z (N,) of the foremost of the triangles (M, 3, 3) that look forward, at x and y of points (N, 3); infinite
    where there is none.
    """
    xs, ys, zs = np.moveaxis(triangles, 2, 0).transpose(0, 2, 1)  # (3, M) each, by corner
    doubled = (xs[1] - xs[0]) * (ys[2] - ys[0]) - (ys[1] - ys[0]) * (xs[2] - xs[0])
    left, right, low, high = xs.min(axis=0), xs.max(axis=0), ys.min(axis=0), ys.max(axis=0)
    x, y = points[:, 0], points[:, 1]
    near = np.flatnonzero(
        (doubled > 1e-12) & (left <= x.max()) & (right >= x.min()) & (low <= y.max()) & (high >= y.min())
    )
    # few triangles have a point in their box; only they are looked at closely
    boxed = (left[near] <= x[:, None]) & (x[:, None] <= right[near])
    boxed &= (low[near] <= y[:, None]) & (y[:, None] <= high[near])
    point, which = np.nonzero(boxed)
    triangle = near[which]
    ax, bx, cx = xs[:, triangle]
    ay, by, cy = ys[:, triangle]
    az, bz, cz = zs[:, triangle]
    x, y, doubled = x[point], y[point], doubled[triangle]
    of_b = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / doubled  # (P,)
    of_c = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / doubled
    inside = (of_b >= 0) & (of_c >= 0) & (of_b + of_c <= 1)
    depth = az + of_b * (bz - az) + of_c * (cz - az)
    foremost = np.full(len(points), -np.inf)
    np.maximum.at(foremost, point[inside], depth[inside])
    return np.where(np.isfinite(foremost), foremost, np.inf)


def _poses() -> np.ndarray:
    """Action unit weights (N, 2, A): every unit on one side, and all labels, in several strengths."""
    units = np.eye(2 * len(ACTION_UNITS)).reshape(-1, 2, len(ACTION_UNITS))
    labels = np.stack([weights_of(label) for label in (*COMA_LABELS, *FLORENCE_LABELS)])
    return np.concatenate([s * units for s in _UNIT_WEIGHTS] + [s * labels for s in _LABEL_WEIGHTS])


def _operator(coarse: DemoHead, fine: DemoHead) -> sparse.csr_matrix:
    """(V', V): rows whose sum is 1."""
    number = np.arange(len(coarse.mean))
    of_half = len(half_head(coarse.level).chart)
    skin = number[coarse.kind < EYE]
    same = np.where(skin < of_half, skin, fine.mirror[coarse.mirror[skin]])  # fine numbers of the coarse skin
    rows = [sparse.coo_matrix((np.ones(len(skin)), (same, skin)), shape=(len(fine.mean), len(number)))]
    edges = np.concatenate([fine.faces[:, [0, 1]], fine.faces[:, [1, 2]], fine.faces[:, [2, 0]]])
    old = np.full(len(fine.mean), -1)
    old[same] = skin
    new = old[edges] < 0
    new[fine.kind[edges] >= EYE] = False
    ends = [edges[new[:, k] & (old[edges[:, 1 - k]] >= 0)][:, [k, 1 - k]] for k in (0, 1)]
    pairs = np.unique(np.concatenate(ends), axis=0)  # new vertex, an end of the edge it divides
    share = 1 / np.bincount(pairs[:, 0], minlength=len(fine.mean))[pairs[:, 0]]
    rows.append(sparse.coo_matrix((share, (pairs[:, 0], old[pairs[:, 1]])), shape=rows[0].shape))
    for kind in (EYE, TEETH):
        for side in (-1, 1):
            at, by = (np.flatnonzero((head.kind == kind) & (_half(head, kind) == side)) for head in (fine, coarse))
            middle = coarse.mean[by].mean(axis=0)
            size = np.abs(coarse.mean[by] - middle).max()
            places = [
                np.column_stack([(points - middle) / size, np.ones(len(points))])
                for points in (fine.mean[at], coarse.mean[by])
            ]
            weights = places[0] @ np.linalg.pinv(places[1])
            row, column = np.meshgrid(at, by, indexing="ij")
            rows.append(sparse.coo_matrix((weights.ravel(), (row.ravel(), column.ravel())), shape=rows[0].shape))
    return sum(rows[1:], rows[0]).tocsr()


def _half(head: DemoHead, kind: int) -> np.ndarray:
    """(V,) -1 or 1: which eyeball, which row of teeth."""
    return head.side if kind == EYE else np.sign(head.inner[:, 1])
