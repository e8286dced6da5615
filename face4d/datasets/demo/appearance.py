"""Colours for pictures of the demo head: skin, lips, brows, eyes, teeth. Never written to the data set."""

from __future__ import annotations

import numpy as np

from face4d.datasets.demo import surface
from face4d.datasets.demo.head import EYE, POCKET, RIM, SKIN, TEETH, DemoHead
from face4d.datasets.demo.surface import bump, smoothstep

__all__ = ["vertex_colors"]

_SKIN = (0.62, 0.40, 0.30)


def vertex_colors(
    head: DemoHead, *, skin: tuple[float, float, float] = _SKIN, iris: tuple[float, float, float] = (0.10, 0.17, 0.20)
) -> np.ndarray:
    """Linear RGB (V, 3) in 0..1 for `face4d.view.render.render_mesh(colors=...)`."""
    p, q = head.p, head.q
    flesh = np.asarray(skin, dtype=float)
    color = np.tile(flesh, (len(p), 1))
    flush = bump(p, q, (44, -8), (16, 12)) + 0.7 * bump(p, q, (0, -12), (13, 8)) + 0.6 * smoothstep(surface.ear_radius(p, q), 1.0, 0.7)
    color = _mix(color, flesh * [1.02, 0.80, 0.78], 0.55 * np.clip(flush, 0, 1))
    u, v = surface.mouth_coordinates(p, q)
    height = np.where(v >= 0, surface.upper_lip_height(u), surface.lower_lip_height(u))
    lip = smoothstep(np.abs(v) / np.maximum(height, 1.5), 1.12, 0.88) * (u <= 1.0)
    color = _mix(color, flesh * [0.80, 0.46, 0.46], lip)
    brow_q = 43.5 + 3.5 * np.sin(np.clip((p - 6) / 46, 0, 1) * 2.4)
    brow = np.exp(-0.5 * ((q - brow_q) / 2.6) ** 2) * smoothstep(p, 6, 11) * smoothstep(p, 58, 46) * (head.kind == SKIN)
    color = _mix(color, np.array([0.10, 0.06, 0.045]), 0.85 * brow)
    _, distance, above = surface.eye_distance(p, q)
    near = np.hypot(p - surface.EYE_CHART[0], q - surface.EYE_CHART[1]) < 25
    lash = near * smoothstep(distance, 1.6, 0.0) * np.where(above > 0, 0.8, 0.35)
    color = _mix(color, np.array([0.12, 0.07, 0.055]), lash)
    color[head.kind == RIM] = flesh * [0.75, 0.55, 0.52]
    pocket = head.kind == POCKET
    color[pocket] = np.array([0.16, 0.035, 0.035]) * (1 - 0.85 * head.inner[pocket, 2:3])
    color[head.kind == TEETH] = [0.78, 0.74, 0.64]
    eye = head.kind == EYE
    ball = head.mean[eye] * 1e3 - surface.EYE_CENTER * np.stack([head.side[eye], np.ones(eye.sum()), np.ones(eye.sum())], axis=1)
    polar = np.rad2deg(np.arctan2(np.hypot(ball[:, 0], ball[:, 1]), ball[:, 2]))
    white = np.tile([0.74, 0.72, 0.70], (eye.sum(), 1))
    white = np.where((polar < 27)[:, None], np.asarray(iris, dtype=float), white)
    color[eye] = np.where((polar < (10.5 if head.level else 5))[:, None], 0.008, white)
    return color


def _mix(base: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return base + share[:, None] * (other - base)
