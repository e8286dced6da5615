"""Where the 468 points of MediaPipe's landmark network lie on the demo head: places on its chart, for every level of
detail.

`benchmarks/demo_points.py` has measured `points.npz` on rendered pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from face4d.demo.flame import locate
from face4d.demo.head import DemoHead
from face4d.runtime.arrays import load_npz

FILE = Path(__file__).with_name("points.npz")


class PointPlaces(NamedTuple):
    """Places of the points on the head's triangles, for every yaw of a table.

    Attributes:
        yaw: (A,) degrees, rising; positive where the face is turned to its own left.
        face_idx: (A, 468).
        bary: (A, 468, 3).
        spread: (A, 468) metres: median distance, across the line of sight, of the point seen from its place.
    """

    yaw: np.ndarray
    face_idx: np.ndarray
    bary: np.ndarray
    spread: np.ndarray


def point_places(head: DemoHead) -> PointPlaces:
    """The 468 points on a head of any level."""
    table = load_npz(FILE, "the demo head's 468 points", ("yaw", "chart", "spread"))
    chart = table["chart"].astype(float).reshape(-1, 2)  # p is negative on the subject's right
    face_idx, bary = locate(head, np.sign(chart[:, 0]), np.stack([np.abs(chart[:, 0]), chart[:, 1]], axis=1))
    shape = table["chart"].shape[:2]
    return PointPlaces(table["yaw"].astype(float), face_idx.reshape(shape), bary.reshape(*shape, 3), table["spread"])
