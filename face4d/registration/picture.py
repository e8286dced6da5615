"""A registered scan in one picture: the scan, the result, and how far they are apart, from two sides."""

from __future__ import annotations

import numpy as np

from face4d.constants import MM_PER_METRE
from face4d.mesh.geometry import vertex_normals
from face4d.registration.nonrigid import match
from face4d.registration.pipeline import Registration
from face4d.registration.template import Template
from face4d.render.clay import CLAY, frame_view, render_mesh

_FAR = 2.0  # millimetres, drawn in full colour
_NEAR_COLOUR, _FAR_COLOUR, _UNCOVERED = (0.35, 0.42, 0.50), (0.75, 0.08, 0.05), (0.85, 0.85, 0.85)  # linear RGB
_AROUND = 1.25  # of the template's extent that is shown: shoulders are cut off
_SIZE = 420
_YAWS = (0.0, 40.0)


def registration_picture(registration: Registration, template: Template) -> np.ndarray:
    """(2 * 420, 3 * 420, 3) uint8. Columns: scan; result; result coloured by its distance from the scan, blue-grey at
    0, red from 2 mm, white where the scan does not cover it.
    """
    vertices = registration.vertices.astype(np.float64)
    found = match(vertices, vertex_normals(vertices, template.faces), registration.scan, 0.02)
    share = np.clip(MM_PER_METRE * found.distance / _FAR, 0, 1)[:, None]
    colours = np.where(found.valid[:, None], (1 - share) * _NEAR_COLOUR + share * _FAR_COLOUR, _UNCOVERED)
    rows = []
    for yaw in _YAWS:
        framing = frame_view(vertices, yaw=yaw, margin=_AROUND - 1)
        shown = (
            (registration.scan.vertices, registration.scan.faces, np.tile(CLAY, (len(registration.scan.vertices), 1))),
            (vertices, template.faces, np.tile(CLAY, (len(vertices), 1))),
            (vertices, template.faces, np.where(np.isfinite(colours), colours, _UNCOVERED)),
        )
        rows.append(
            np.concatenate(
                [
                    render_mesh(points, faces, size=_SIZE, yaw=yaw, framing=framing, colors=colors)
                    for points, faces, colors in shown
                ],
                axis=1,
            )
        )
    return np.concatenate(rows)
