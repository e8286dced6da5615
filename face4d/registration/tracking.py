"""Sequences of scans: the first is registered by itself, every later one from the one before."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from face4d.constants import MM_PER_METRE
from face4d.landmarks import extract
from face4d.mesh.geometry import closest_points, fit_similarity, vertex_normals
from face4d.photos.face_networks import installed
from face4d.registration.nonrigid import NO_ANCHORS, Anchors, Stage, match, register
from face4d.registration.pipeline import Registration, residuals_of
from face4d.registration.scan import Scan
from face4d.registration.template import Template
from face4d.registration.views import SurfacePoints, points_near

log = logging.getLogger(__name__)

STAGES = (
    Stage(0.015, 0.020, 0.2, 3),
    Stage(0.009, 0.010, 0.05, 2),
    Stage(0.005, 0.008, 0.0, 2),
    Stage(0.003, 0.006, 0.0, 2),
)
_TURNS = ((0, 0), (-25, 0), (25, 0))  # degrees, from which the points are looked at
_LEAST_SEEN = 60  # points that say how the head has moved
_REACH = 0.030  # metres that it may move between frames without them
_ROUNDS, _SAMPLED = 8, 1500
_LOST = 1.0  # millimetres from the scan, median over face or mouth
_BENT = 5.0  # millimetres by which a face in motion differs from itself, median over all vertices
_LEAST_COVERED = 0.8  # of what the first scan covers of the face


def track(
    first: Registration, template: Template, scans: Iterable[tuple[str | Path, Scan]]
) -> Iterator[tuple[Registration, bool]]:
    """Register the later scans of a sequence, in the unit and place of the first.

    Each head is the first one's, displaced as the scan asks for: what it is smooth against does not change, so it does
    not drift along the surface from frame to frame. It starts as the frame before, moved rigidly: by the points of the
    face where the networks are installed and see it, then by closest points. The points are compared with where they
    lie on the first head, so what the networks see otherwise than anatomy has it, they see on both.

    Args:
        first: of the first scan.
        scans: name and scan of each later one, as in its file.

    Yields:
        The registration, and whether points of the face were seen.
    """
    neutral = head = first.vertices.astype(np.float64)
    known = _seen(first.scan, template, neutral)
    places = None if known is None else closest_points(known.points, neutral, template.faces)
    for name, scan in scans:
        there = scan.moved(first.placed.scale, first.placed.rotation, first.placed.translation)
        seen = None if known is None else _seen(there, template, head)
        anchors = NO_ANCHORS
        if seen is not None and known is not None and places is not None:
            weights = np.sqrt(seen.weights * known.weights)
            use = np.flatnonzero(weights > 0.1)
            if len(use) >= _LEAST_SEEN:
                corners = template.faces[places.face[use]].astype(np.int64)
                anchors = Anchors(corners, places.bary[use], seen.points[use], weights[use])
        start = _moved(head, template, there, anchors)
        head = register(neutral, template.faces, there, NO_ANCHORS, STAGES, start=start, held=template.held)
        residuals = residuals_of(head, template, there)
        found = replace(first, vertices=head.astype(np.float32), scan=there, residuals=residuals)
        if doubt := _doubt(found, first):
            log.warning("note: %s: %s; look at it", name, doubt)
        yield found, bool(len(anchors.bary))


def _doubt(found: Registration, first: Registration) -> str | None:
    """Why a registration may have lost the face, None where it seems right."""
    away = [found.residuals[region].median for region in ("face", "mouth")]
    if None in away or max(filter(None, away), default=0.0) > _LOST:
        return f"face or mouth is more than {_LOST:g} mm from the scan"
    covered, usual = (one.residuals["face"].covered for one in (found, first))
    if covered < _LEAST_COVERED * usual:
        return f"the scan covers {100 * covered:.0f} % of the face, the first one {100 * usual:.0f} %"
    rigid = fit_similarity(first.vertices, found.vertices).apply(first.vertices)
    bent = MM_PER_METRE * float(np.median(np.linalg.norm(found.vertices - rigid, axis=1)))
    return f"the head is bent by {bent:.0f} mm" if bent > _BENT else None


def _seen(scan: Scan, template: Template, head: np.ndarray) -> SurfacePoints | None:
    """The networks' points on a scan about a head; None without networks, or where they see no face."""
    return points_near(scan, extract(template.embedding, head), _TURNS) if installed() else None


def _moved(head: np.ndarray, template: Template, scan: Scan, anchors: Anchors) -> np.ndarray:
    """A head after the rigid motion that brings it to the scan: by the points, then by closest points."""
    if len(anchors.bary):
        head = fit_similarity(anchors.on(head), anchors.targets, scaled=False).apply(head)
    some = np.linspace(0, len(head) - 1, min(len(head), _SAMPLED)).astype(int)
    for _ in range(_ROUNDS):
        found = match(head[some], vertex_normals(head, template.faces)[some], scan, _REACH)
        if found.valid.sum() < 30:
            break
        head = fit_similarity(head[some][found.valid], found.points[found.valid], scaled=False).apply(head)
    return head
