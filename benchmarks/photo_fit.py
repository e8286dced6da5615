"""Fits of a face model to photos and to pictures of heads of known geometry.

    python benchmarks/photo_fit.py --heads actors/ --flame flame_assets/ --expressions shapes.npz --photos photos/

The model is in FLAME's topology: mean and principal components of the heads, and expression shapes (an npz with
``deltas`` (E, V, 3)). Photos: normalised mean error of 68 landmarks, by two normalisations. Heads: every head is drawn
in random colours and light, from the front (one view) and from three sides (the same colours, other light), and fitted
by a model of the others, with an embedding of the 468 points measured on other heads; distances of its face from the
fit after a similarity, millimetres, beside the mean face of the others. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from face4d.constants import MM_PER_METRE, NUM_CONTOUR
from face4d.deca.face_model import FaceModel, build_face_model
from face4d.deca.reconstruction import Reconstructor, reconstruct
from face4d.errors import InputError
from face4d.evaluation.scans import scan_to_mesh, seven_landmarks
from face4d.fitting.photos import PhotoFitter
from face4d.flame.model import NUM_JOINTS, NUM_POSE_FEATURES, FlameModel
from face4d.landmarks import LandmarkEmbedding, extract, load_flame_embedding
from face4d.mesh.geometry import fit_similarity, head_rotation
from face4d.mesh.sequence import read_mesh
from face4d.photos.crops import FaceBox, read_photo
from face4d.photos.face_points import FacePoints, find_points, points_in, refined
from face4d.photos.faces import landmark_nme, photo_paths, read_landmarks
from face4d.photos.turned import TurnedSquare
from face4d.registration.embeddings import POINT_FILE
from face4d.render.lit import render
from face4d.runtime.arrays import load_npz
from face4d.runtime.mat import read_mat
from face4d.runtime.progress import track
from face4d.synthetic.faces import FaceRegions, random_backgrounds, random_colors, random_light
from face4d.synthetic.head_views import head_views
from face4d.synthetic.point_embedding import HeadView, measure_embedding, save_point_embedding

FOLDS = 6  # of heads left out of the embedding together; the model leaves out one
SIZE, MARGIN = 448, 1.9
YAWS = (0, -30, 30)
REACH = 0.095  # metres about the tip of the nose: the face
EXPRESSION = 0.010  # metres: largest movement of a shape at a coefficient of 1


class Heads(NamedTuple):
    """Heads of one topology, and what is known of it."""

    names: list[str]
    vertices: np.ndarray  # (N, V, 3) metres
    embedding: LandmarkEmbedding
    expressions: np.ndarray  # (E, V, 3)

    def landmarks(self, vertices: np.ndarray) -> np.ndarray:
        return extract(self.embedding, vertices)


def load_heads(folder: Path, flame: Path, expressions: Path) -> Heads:
    paths = sorted(folder.glob("*.ply"))
    vertices = np.stack([read_mesh(path)[0].astype(np.float64) for path in paths])
    deltas = load_npz(expressions, "expression shapes (npz with deltas)", ("deltas",))["deltas"].astype(np.float64)
    deltas *= EXPRESSION / np.linalg.norm(deltas, axis=2).max(axis=1)[:, None, None]
    return Heads([path.stem for path in paths], vertices, load_flame_embedding(flame), deltas)


def face_of(heads: Heads, vertices: np.ndarray) -> np.ndarray:
    """(V,) bool: the vertices that are measured."""
    return np.linalg.norm(vertices - heads.landmarks(vertices)[30], axis=1) < REACH


def face_model(heads: Heads, without: int | None, folder: Path) -> FaceModel:
    """A FLAME-format model of all heads but one; ``folder`` holds its embedding of the 468 points."""
    vertices = np.delete(heads.vertices, without, axis=0) if without is not None else heads.vertices
    mean = vertices.mean(axis=0)
    face = face_of(heads, mean)
    for _ in range(3):  # generalised Procrustes analysis on the face
        vertices = np.stack([fit_similarity(one[face], mean[face], scaled=False).apply(one) for one in vertices])
        mean = vertices.mean(axis=0)
    _, deviations, modes = np.linalg.svd((vertices - mean).reshape(len(vertices), -1), full_matrices=False)
    count = len(vertices) - 1
    identities = (modes[:count] * deviations[:count, None] / np.sqrt(count)).reshape(count, -1, 3)
    number = len(mean)
    regressor, weights = np.full((NUM_JOINTS, number), 1 / number), np.zeros((number, NUM_JOINTS))
    weights[:, 0] = 1  # expressions open the mouth, no joint does
    model = FlameModel(
        template=mean,
        shape_directions=np.moveaxis(identities, 0, 2),
        expression_directions=np.moveaxis(heads.expressions, 0, 2),
        pose_directions=np.zeros((number, 3, NUM_POSE_FEATURES)),
        joint_regressor=regressor,
        skin_weights=weights,
        faces=heads.embedding.faces.astype(np.int32),
    )
    return build_face_model("heads", model, heads.embedding, folder)


def fitters(heads: Heads, folder: Path, seed: int, without: bool) -> Iterator[PhotoFitter]:
    """For every head a fitter that knows nothing of it (``without``), or one of all heads."""
    faces = np.asarray(heads.embedding.faces)
    drawn = head_views([(one, heads.landmarks(one)) for one in heads.vertices], faces, seed)
    views = [view for view in track("looking", drawn, total=27 * len(heads.names), unit="picture") if view is not None]

    def measured(chosen: list[HeadView], name: str) -> Path:
        save_point_embedding(folder / name / POINT_FILE, measure_embedding(chosen, faces, folds=1)[0])
        return folder / name

    if not without:
        yield PhotoFitter(face_model(heads, None, measured(views, "all")))
        return
    places = [measured([view for view in views if view.head % FOLDS != fold], str(fold)) for fold in range(FOLDS)]
    for number in range(len(heads.names)):
        yield PhotoFitter(face_model(heads, number, places[number % FOLDS]))


def drawn_views(heads: Heads, number: int, seed: int) -> list[tuple[np.ndarray, FacePoints]]:
    """Pictures of a head from the front and two sides, with the points that the network sees."""
    draw = torch.Generator().manual_seed(1000 * seed + number)
    vertices, faces = heads.vertices[number], torch.as_tensor(np.asarray(heads.embedding.faces, np.int64))
    neutral, marks = torch.as_tensor(vertices, dtype=torch.float32), heads.landmarks(vertices)
    colors = random_colors(FaceRegions(neutral, faces, torch.as_tensor(marks, dtype=torch.float32)), 1, draw)
    found = []
    for yaw in YAWS:
        rotation = head_rotation(yaw, 0)
        seen = marks @ rotation.T
        low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
        camera = torch.tensor([[2 / ((high - low).max() * MARGIN), *(-(low + high) / 2)]], dtype=torch.float32)
        turned = torch.as_tensor((vertices @ rotation.T).astype(np.float32))[None]
        picture = render(turned, faces, camera, random_light(1, draw), SIZE, colors=colors)
        behind = random_backgrounds(1, SIZE, draw)
        image = torch.where(picture.mask > 0, picture.image, behind).clamp(0, 1)[0].permute(1, 2, 0).numpy()
        image = np.round(image * 255) / 255  # as a picture file holds it
        first = points_in(image, TurnedSquare(SIZE / 2, SIZE / 2, SIZE))
        points = refined(image, first) if first.is_face else None
        if points is not None:
            found.append((image, points))
    return found


def distances(heads: Heads, true: np.ndarray, fitted: np.ndarray) -> tuple[float, float]:
    """Mean distance of the face from the true vertices, and of the true face from the surface (NoW's measure)."""
    face = face_of(heads, true)
    aligned = fit_similarity(fitted[face], true[face]).apply(fitted)
    marks, seven = seven_landmarks(heads.landmarks(fitted)), seven_landmarks(heads.landmarks(true))
    scan = scan_to_mesh(true, seven, fitted, np.asarray(heads.embedding.faces), marks, refine=10)
    return float(np.linalg.norm(aligned - true, axis=1)[face].mean() * MM_PER_METRE), float(scan.distances.mean())


def geometry(heads: Heads, folder: Path, seed: int, encoder: Path | None) -> None:
    rows: dict[str, list[tuple[float, float]]] = {}
    reconstructor = Reconstructor.load(encoder) if encoder is not None else None
    everyone = fitters(heads, folder, seed, without=True)
    for number, fitter in enumerate(track("fitting", everyone, total=len(heads.names), unit="head")):
        true, views = heads.vertices[number], drawn_views(heads, number, seed)
        layer, own = fitter.face.layer, fitter.face.own_shape
        mean = fitter.face.model.template
        rows.setdefault("mean face", []).append(distances(heads, true, mean))
        if len(views) < len(YAWS):
            print(f"{heads.names[number]}: a face in {len(views)} of {len(YAWS)} pictures")
        for name, used in (("one view", views[:1]), ("three views", views)):
            for kind, shading in (("points", False), ("points and shading", True)):
                skin, fitter._fitter.skin = fitter._fitter.skin, fitter._fitter.skin if shading else None
                seen = [fitter.seen(image, points.points) for image, points in used]
                identity = torch.as_tensor(fitter.identity(seen), dtype=torch.float32)[None]
                fitter._fitter.skin = skin
                with torch.no_grad():
                    fitted = layer(shape=identity).vertices[0].double().numpy()
                rows.setdefault(f"{name}, {kind}", []).append(distances(heads, true, fitted))
        bound = np.linalg.lstsq(
            fitter.face.model.shape_directions[face_of(heads, mean)][:, :, :own].reshape(-1, own),
            (fit_similarity(true, mean, scaled=False).apply(true) - mean)[face_of(heads, mean)].ravel(),
            rcond=None,
        )[0]
        nearest = mean + fitter.face.model.shape_directions[:, :, :own] @ bound
        rows.setdefault("nearest in the model", []).append(distances(heads, true, nearest))
        if reconstructor is not None:
            image, points = views[0]
            found = reconstruct(reconstructor, image, FaceBox.of_landmarks(points.landmarks), detail=False)
            model = reconstructor.face
            neutral = found.face.neutral[0].numpy().astype(np.float64)
            marks = extract(model.embedding, neutral)
            scan = scan_to_mesh(
                true,
                seven_landmarks(heads.landmarks(true)),
                neutral,
                model.model.faces,
                seven_landmarks(marks),
                refine=10,
            )
            rows.setdefault("encoder trained on renderings, one view", []).append(
                (float("nan"), float(scan.distances.mean()))
            )
    base = np.mean(rows["mean face"], axis=0)
    print("| | to true vertices (mm) | nearer than the mean face | to the surface (mm) | nearer |")
    print("|---|---:|---:|---:|---:|")
    for name, values in rows.items():
        found = np.mean(values, axis=0)
        gain = 100 * (1 - found / base)
        print(f"| {name} | {found[0]:.2f} | {gain[0]:.0f} % | {found[1]:.2f} | {gain[1]:.0f} % |")


def photos(heads: Heads, folder: Path, seed: int, source: Path, models: Sequence[str]) -> None:
    by_model = {"heads": next(fitters(heads, folder, seed, without=False))}
    by_model |= {name: PhotoFitter.load(name) for name in models}
    print("| | 68 | turned below 40 degrees | 51 inner | 68, box | below 40, box | seconds |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, fitter in by_model.items():
        rows, seconds = [], []
        for path in photo_paths([source]):
            start, photo, true = time.process_time(), read_photo(path), read_landmarks(path.with_suffix(".mat"))
            found = fitter.fit(photo, find_points(photo)[0].points)
            seconds.append(time.process_time() - start)
            jaw = fitter.face.embedding.on_jaw_line(fitter.face.model.template)
            landmarks = extract(jaw, found.placed)
            box = np.sqrt(np.prod(np.ptp(true[:, :2], axis=0)))
            away = np.linalg.norm(landmarks[:, :2] - true[:, :2], axis=1)
            nme = landmark_nme(landmarks, true)
            yaw = abs(np.degrees(read_mat(path.with_suffix(".mat"), "Pose_Para", "a pose").ravel()[1]))
            rows.append((nme, nme * away[NUM_CONTOUR:].mean() / away.mean(), away.mean() / box, yaw < 40))
        errors, frontal = 100 * np.array([row[:3] for row in rows]), np.array([row[3] for row in rows])
        print(
            f"| {name} | {errors[:, 0].mean():.2f} | {errors[frontal, 0].mean():.2f} | {errors[:, 1].mean():.2f} | "
            f"{errors[:, 2].mean():.2f} | {errors[frontal, 2].mean():.2f} | {np.median(seconds):.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path, required=True, metavar="DIR", help="neutral heads (PLY)")
    parser.add_argument("--flame", type=Path, required=True, metavar="DIR", help="landmark files of the topology")
    parser.add_argument("--expressions", type=Path, required=True, metavar="FILE", help="npz with deltas (E, V, 3)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="of AFLW2000-3D")
    parser.add_argument(
        "--models", nargs="*", default=["demo"], metavar="DIR", help="other face models for the photos (default: demo)"
    )
    parser.add_argument("--encoder", type=Path, metavar="FILE", help="of Reconstruction/deca_train.py, to compare")
    parser.add_argument("--work", type=Path, default=Path("findings"), metavar="DIR", help="for embeddings")
    parser.add_argument("--seed", type=int, default=27)
    args = parser.parse_args()
    heads = load_heads(args.heads, args.flame, args.expressions)
    if len(heads.names) < FOLDS:
        raise InputError(args.heads, f"{FOLDS} heads or more", str(len(heads.names)))
    if args.photos is not None:
        photos(heads, args.work, args.seed, args.photos, args.models)
    geometry(heads, args.work, args.seed, args.encoder)


if __name__ == "__main__":
    main()
