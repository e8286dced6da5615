"""Make face4d/flame/anny_landmarks.npz and face4d/synthetic/points_anny.npz: landmarks and points of the open head.

    python benchmarks/anny_points.py

Where the landmark network sees its 468 points is measured on 24 people, each at rest and with an open mouth and an
expression, from 27 sides. Inner points of the 68 are among them, those of brows and nose moved to where FLAME has them;
the jaw line is drawn by hand. Both halves of the face are measured as one, mirrored. Takes three minutes. Prints a
Markdown table: millimetres from the places measured on other people.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from face4d.demo.flame import YAW_DEGREES
from face4d.flame.anny import LANDMARK_FILE, OpenHead, open_head
from face4d.flame.layer import FlameLayer
from face4d.landmarks import LandmarkEmbedding, extract, save_embedding
from face4d.mesh.geometry import closest_points
from face4d.photos.face_points import TO_68
from face4d.registration.scan import Scan
from face4d.registration.views import upright_points
from face4d.render.zbuffer import rasterize
from face4d.runtime.progress import track
from face4d.synthetic.head_views import PITCHES, YAWS, head_views
from face4d.synthetic.point_embedding import (
    PACKAGE,
    PointEmbedding,
    errors_by_yaw,
    measure_embedding,
    mirror_partners,
    save_point_embedding,
)

PEOPLE, SEED = 24, 468
# Where the network sees points of brows and nose from where FLAME's landmarks have them, the subject's right half,
# millimetres: means over 24 real heads in FLAME's topology, both halves as one.
SEEN_FROM = {
    17: (4.3, 11.5, 7.9), 18: (1.1, 2.5, 0.5), 19: (-3.9, 3.8, -4.8), 20: (-6.5, 6.4, -3.9), 21: (-4.9, 9.3, -0.8),
    27: (0, 4.2, -1.2), 28: (0, 2.3, -2.7), 29: (0, -0.5, -0.3), 30: (0, 2.3, -1.5),
    31: (-0.2, 2.8, 3.3), 32: (-0.4, 1.6, 0), 33: (0, 3.4, 3.7),
}  # fmt: skip
# The jaw line of the mean head as one sees it from the left, (y, z) in millimetres: from before the ear to the chin.
JAW_LINE = ((24, -18), (4, -10), (-15, -10), (-33, -10), (-50, -3), (-64, 6), (-77, 17), (-85, 31))
CHIN = (-88, 38)
BESIDE_NOSE = 0.026  # metres from the middle: the outline stays outside
BELOW_EYES = 0.035  # metres: the middle of the inner landmarks
PIXEL = 0.00025  # metres
FEW = 0.08  # of the facial units, in an expression
OPENING = 0.25  # radians, so that the two lips are apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    head = open_head()
    layer = FlameLayer(
        head.model, num_shape=head.model.shape_directions.shape[2], num_expression=len(head.model.expression_names)
    )
    mean, opened = (pose(layer, jaw=jaw)[0] for jaw in (0.0, OPENING))
    first = first_landmarks(head, mean)
    embedding = symmetric(head, opened, measured(head, layer, first))
    inner = on_skin(head, opened, inner_landmarks(embedding.points(opened, head.model.faces, 0)))
    landmarks = replace(
        first,
        face_idx=np.concatenate([first.face_idx[:17], inner[0]]),
        bary=np.concatenate([first.bary[:17], inner[1]]),
    )
    save_embedding(LANDMARK_FILE, landmarks)
    save_point_embedding(PACKAGE / "points_anny.npz", embedding)
    print(f"wrote {LANDMARK_FILE.resolve()}\nwrote {(PACKAGE / 'points_anny.npz').resolve()}")


def pose(layer: FlameLayer, jaw: float | torch.Tensor = 0.0, **given: torch.Tensor) -> np.ndarray:
    """Heads (B, V, 3), metres."""
    angle = torch.as_tensor(jaw, dtype=torch.float32).reshape(-1, 1)
    with torch.no_grad():
        return layer(jaw_pose=torch.cat([angle, 0 * angle, 0 * angle], dim=1), **given).vertices.double().numpy()


def first_landmarks(head: OpenHead, vertices: np.ndarray) -> LandmarkEmbedding:
    """The 68 landmarks with the jaw line for all yaws, by one look at the head."""
    eyes = vertices[head.parts == 1]
    middle, size = np.array([0, eyes[:, 1].mean() - BELOW_EYES, eyes[:, 2].max()]), np.ptp(eyes[:, 0]) / 2
    found = upright_points(Scan.of(vertices, head.model.faces), np.eye(3), middle, size)
    assert found is not None, "the network sees no face"
    contour = on_skin(head, vertices, jaw_lines(head, vertices))
    inner = on_skin(head, vertices, inner_landmarks(found.points))
    return LandmarkEmbedding(
        np.concatenate([contour[0][0], inner[0]]),
        np.concatenate([contour[1][0], inner[1]]),
        head.model.faces,
        len(vertices),
        *contour,
    )


def inner_landmarks(points: np.ndarray) -> np.ndarray:
    """(51, 3) of where the network sees its points (468, 3), both halves as one."""
    found = points[TO_68[17:]].copy()
    for number, offset in SEEN_FROM.items():
        found[number - 17] -= np.array(offset) / 1000
        if number < 22:  # the left brow
            found[43 - number - 17] -= np.array(offset) * [-1, 1, 1] / 1000
        elif number in (31, 32):  # the left half of the nose
            found[66 - number - 17] -= np.array(offset) * [-1, 1, 1] / 1000
    return (found + found[mirror_partners(found[:, :2])] * [-1, 1, 1]) / 2


def jaw_lines(head: OpenHead, vertices: np.ndarray) -> np.ndarray:
    """(79, 17, 3): the jaw line of a face that looks ahead, and on the side that turns away the outline, at the same
    heights.
    """
    skin = head.model.faces[(head.parts[head.model.faces] == 0).all(axis=1)]
    low = np.array([vertices[:, 1].min(), vertices[:, 2].min()])
    across, down = (np.rint(np.ptp(vertices[:, axis]) / PIXEL).astype(int) + 1 for axis in (2, 1))
    flat = (vertices[:, [2, 1]] - low[::-1]) / PIXEL
    depth = rasterize(np.column_stack([flat, -vertices[:, 0]]), skin, down, across)[2]  # seen from the left
    right = np.zeros((len(YAW_DEGREES), 8, 3))
    for level, (y, z) in enumerate(np.array(JAW_LINE) / 1000):
        row, first = round((y - low[0]) / PIXEL), round((z - low[1]) / PIXEL)
        x = -depth[row, first:]
        ahead = max(int((x > BESIDE_NOSE).argmin()), 1)
        places = np.stack([x[:ahead], np.full(ahead, y), z + PIXEL * np.arange(ahead)], axis=1)
        for number, degrees in enumerate(YAW_DEGREES):
            angle = np.deg2rad(max(degrees, 0))
            chosen = (places[:, 0] * np.cos(angle) + places[:, 2] * np.sin(angle)).argmax() if degrees > 0 else 0
            right[number, level] = places[chosen]
    left = right[[0, *range(40, 79), *range(1, 40)]] * [-1, 1, 1]  # of the face turned the other way
    chin = np.broadcast_to(np.array([[[0.0, *CHIN]]]) / 1000, (len(YAW_DEGREES), 1, 3))
    return np.concatenate([left, chin, right[:, ::-1]], axis=1)


def on_skin(head: OpenHead, vertices: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces (...) and weights (..., 3) of the places of the skin nearest to points (..., 3)."""
    skin = np.flatnonzero((head.parts[head.model.faces] == 0).all(axis=1))
    found = closest_points(points.reshape(-1, 3), vertices, head.model.faces[skin])
    return skin[found.face].reshape(points.shape[:-1]), found.bary.reshape(points.shape)


def measured(head: OpenHead, layer: FlameLayer, landmarks: LandmarkEmbedding) -> PointEmbedding:
    """Where the network sees its points on sampled people."""
    draw = torch.Generator().manual_seed(SEED)
    shape = torch.randn(PEOPLE, layer.num_shape, generator=draw)
    units = (
        (torch.rand(PEOPLE, len(head.model.expression_names), generator=draw) < FEW)
        * 2
        * torch.rand(PEOPLE, 1, generator=draw)
    )
    jaw = 0.05 + 0.25 * torch.rand(PEOPLE, generator=draw)
    at_rest, moved = pose(layer, torch.zeros(PEOPLE), shape=shape), pose(layer, jaw, shape=shape, expression=units)
    heads, neutral = (
        [(face, extract(landmarks, face)) for face in faces]
        for faces in (np.concatenate([at_rest, moved]), np.concatenate([at_rest, at_rest]))
    )
    drawn = head_views(heads, head.model.faces, SEED, neutral)
    total = len(heads) * len(YAWS) * len(PITCHES)
    views = [view for view in track("looking", drawn, total=total, unit="picture") if view is not None]
    print(f"{len(heads)} heads, {len(views)} of {total} pictures in which the network sees a face")
    embedding, left_out = measure_embedding(views, head.model.faces.astype(np.int64))
    print("| yaw | median (mm) | 90th percentile |\n|---:|---:|---:|")
    for yaw, median, most in errors_by_yaw(embedding, views, left_out):
        print(f"| {yaw:.0f} | {median:.2f} | {most:.2f} |")
    return embedding


def symmetric(head: OpenHead, opened: np.ndarray, embedding: PointEmbedding) -> PointEmbedding:
    """The same for both halves of the face; the mouth is open, so that no point changes the lip."""
    places = np.stack([embedding.points(opened, head.model.faces, yaw) for yaw in embedding.yaw])
    other = mirror_partners(places[len(places) // 2, :, :2])
    face_idx, bary = on_skin(head, opened, (places + places[::-1, other] * [-1, 1, 1]) / 2)
    return replace(
        embedding, face_idx=face_idx, bary=bary, spread=(embedding.spread + embedding.spread[::-1, other]) / 2
    )


if __name__ == "__main__":
    main()
