"""Fits of a face model to the points and the shading of photos: what was put in is found again."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from face4d.deca.face_model import FaceModel, load_face_model
from face4d.errors import InputError
from face4d.fitting.photos import PhotoFitter
from face4d.fitting.points import FittedPoints, PointFitter, SeenFace, view_of
from face4d.fitting.shading import SkinShading, skin_vertices
from face4d.flame.layer import FlameLayer
from face4d.flame.smooth import smooth_directions, smooth_fields, with_directions
from face4d.landmarks import extract
from face4d.mesh.geometry import head_rotation
from face4d.photos.crops import FaceBox, deca_crop
from face4d.photos.face_points import TO_68
from face4d.registration.embeddings import demo_point_embedding
from face4d.render.lit import render

SHAPES, EXPRESSIONS = 14, 6


@lru_cache(maxsize=1)
def demo() -> FaceModel:
    return load_face_model("demo")


@lru_cache(maxsize=2)
def fitter(shading: bool = False) -> PointFitter:
    face = demo()
    layer = FlameLayer(face.model, face.embedding, num_shape=SHAPES, num_expression=EXPRESSIONS, dtype=torch.float64)
    template = face.model.template.astype(np.float64)
    skin = SkinShading(template, extract(face.embedding, template), face.model.faces) if shading else None
    return PointFitter(layer, demo_point_embedding(), skin)


def vertices_of(layer: FlameLayer, found: FittedPoints) -> np.ndarray:
    rows = {"shape": found.identity, "expression": found.expression, "global_pose": found.head, "jaw_pose": found.jaw}
    return layer(**{name: torch.as_tensor(value)[None] for name, value in rows.items()}).vertices[0].numpy()


def true_face(draw: np.random.Generator, yaw: float, identity: np.ndarray) -> FittedPoints:
    return FittedPoints(
        identity,
        draw.normal(0, 0.5, EXPRESSIONS),
        Rotation.from_matrix(head_rotation(yaw, draw.uniform(-10, 10))).as_rotvec(),
        np.array([draw.uniform(0, 0.2), 0, 0]),
        draw.uniform(800, 3000),
        draw.uniform(100, 500, 2),
    )


def seen_points(true: FittedPoints) -> np.ndarray:
    """The 468 points of a face as a network without error would see them."""
    layer = fitter().layer
    yaw = view_of(Rotation.from_rotvec(true.head).as_matrix())
    points = demo_point_embedding().points(vertices_of(layer, true), layer.faces.numpy(), yaw)
    return true.in_photo(points)


@pytest.mark.parametrize("yaw", [0, 35, -50])
def test_exact_points_give_the_face(yaw):
    draw = np.random.default_rng(yaw + 60)
    true = true_face(draw, yaw, draw.normal(0, 1, SHAPES))
    found = fitter().fit([SeenFace(seen_points(true))])[0]
    error = np.linalg.norm(
        found.in_photo(vertices_of(fitter().layer, found))[:, :2]
        - true.in_photo(vertices_of(fitter().layer, true))[:, :2],
        axis=1,
    )
    assert np.median(error) / true.scale < 0.0015  # metres: priors draw the face to the mean
    between = Rotation.from_rotvec(found.head).inv() * Rotation.from_rotvec(true.head)
    assert np.degrees(between.magnitude()) < 4
    assert found.scale == pytest.approx(true.scale, rel=0.04)


def test_photos_of_one_person_share_an_identity_and_make_it_better():
    draw = np.random.default_rng(3)
    identity = draw.normal(0, 1, SHAPES)
    true = [true_face(draw, yaw, identity) for yaw in (-30, 0, 30)]
    noise = [draw.normal(0, 0.004 * one.scale, (468, 3)) for one in true]
    photos = [SeenFace(seen_points(one) + error) for one, error in zip(true, noise)]
    together, alone = fitter().fit(photos), [fitter().fit([photo])[0] for photo in photos]
    assert all(np.array_equal(one.identity, together[0].identity) for one in together)
    neutral = replace(true[0], expression=np.zeros(EXPRESSIONS), jaw=np.zeros(3), head=np.zeros(3))

    def error(found: FittedPoints) -> float:
        guess = replace(neutral, identity=found.identity)
        return float(
            np.linalg.norm(vertices_of(fitter().layer, guess) - vertices_of(fitter().layer, neutral), axis=1).mean()
        )

    assert error(together[0]) < 0.8 * np.mean([error(one) for one in alone])
    known = fitter().fit(photos[:1], identity=identity)[0]
    np.testing.assert_array_equal(known.identity, identity)


def test_a_few_wild_points_hardly_matter():
    draw = np.random.default_rng(5)
    true = true_face(draw, 0, draw.normal(0, 1, SHAPES))
    seen = seen_points(true)
    wild = seen.copy()
    wild[draw.choice(468, 25, replace=False), :2] += draw.normal(0, 0.05 * true.scale, (25, 2))
    calm, shaken = (fitter().fit([SeenFace(points)])[0] for points in (seen, wild))
    moved = vertices_of(fitter().layer, shaken) - vertices_of(fitter().layer, calm)
    assert np.linalg.norm(moved, axis=1).mean() < 0.0012


def test_the_smaller_the_face_the_same_the_answer():
    """Pixels mean nothing: a photo at half the size gives the same face."""
    draw = np.random.default_rng(8)
    true = true_face(draw, 10, draw.normal(0, 1, SHAPES))
    large, small = (fitter().fit([SeenFace(size * seen_points(true))])[0] for size in (1, 0.5))
    np.testing.assert_allclose(large.identity, small.identity, atol=1e-6)
    assert large.scale == pytest.approx(2 * small.scale)


def test_shading_brings_the_shape_nearer():
    """Points of the mean face, and a picture of another: what points cannot say, shading does."""
    draw, generator = np.random.default_rng(2), torch.Generator().manual_seed(4)
    shaded, face = fitter(True), demo()
    layer = shaded.layer
    gains = []
    for _ in range(6):
        true = replace(
            true_face(draw, 0, draw.normal(0, 1.5, SHAPES)), expression=np.zeros(EXPRESSIONS), jaw=np.zeros(3)
        )
        true = replace(true, scale=1000.0, shift=np.array([160.0, 160.0]))
        vertices = vertices_of(layer, true)
        camera = torch.tensor([[2 * 1000.0 / 320, 0.0, 0.0]])
        light = torch.zeros(1, 9, 3)
        light[:, 0], light[:, 1:4] = 2.2, torch.randn(1, 3, 1, generator=generator) * 0.8
        colors = torch.full((1, len(vertices), 3), 0.5)
        picture = render(
            torch.as_tensor(vertices, dtype=torch.float32)[None], layer.faces, camera, light, 320, colors=colors
        )
        image = picture.image[0].permute(1, 2, 0).numpy()
        points = seen_points(true)
        points = points + draw.normal(0, 0.006 * true.scale, points.shape)
        crop = deca_crop(FaceBox.of_landmarks(points[TO_68]))
        seen = SeenFace(points, crop.warp(image), crop)
        guesses = [PointFitter(layer, shaded.embedding).fit([seen])[0], shaded.fit([seen])[0]]
        errors = [
            np.linalg.norm(
                layer(shape=torch.as_tensor(one.identity)[None]).vertices[0].numpy()
                - layer(shape=torch.as_tensor(true.identity)[None]).vertices[0].numpy(),
                axis=1,
            )[skin_vertices(face.model.template, extract(face.embedding, face.model.template))].mean()
            for one in guesses
        ]
        gains.append(errors[1] / errors[0])
    assert np.mean(gains) < 0.9, gains


def test_smooth_displacements_are_symmetric_and_fade_out():
    face = demo()
    template = face.model.template.astype(np.float64)
    landmarks = extract(face.embedding, template)
    directions = smooth_directions(template, landmarks, length=0.03, deviation=0.002)
    middle = landmarks[17:].mean(axis=0)
    away = np.linalg.norm(template - middle, axis=1)
    spread = np.sqrt((directions**2).sum(axis=2))  # (V, 3) standard deviation of each coordinate
    assert np.median(spread[away < 0.06]) == pytest.approx(0.002, rel=0.25)
    assert spread[away > 0.20].max(initial=0) < 1e-5  # metres
    mirrored = np.linalg.norm(template[:, None] * [-1, 1, 1] - template[None], axis=2)
    partner, exact = mirrored.argmin(axis=1), mirrored.min(axis=1) < 1e-6
    assert exact.sum() > 100
    np.testing.assert_allclose(directions[exact], directions[partner[exact]] * [[[-1], [1], [1]]], atol=1e-9)
    wide = with_directions(face.model, directions, SHAPES)
    assert wide.shape_directions.shape[2] == SHAPES + directions.shape[2]
    np.testing.assert_array_equal(wide.shape_directions[:, :, :SHAPES], face.model.shape_directions[:, :, :SHAPES])
    odd = smooth_fields(template, landmarks, length=0.03, count=8, odd=True)
    assert np.abs(odd[np.abs(template[:, 0]) < 1e-9]).max() < 1e-9  # no step across the middle


def test_a_code_puts_the_face_where_the_fit_has_it():
    """The camera of the crop and that of the photo are one."""
    draw = np.random.default_rng(11)
    true = true_face(draw, 20, draw.normal(0, 1, SHAPES))
    photos = PhotoFitter(demo())
    points = seen_points(true)
    photo = np.full((700, 900, 3), 0.5, np.float32)
    found = photos.fit(photo, points)
    again = photos._fitter.fit([photos.seen(photo, points)])[0]
    placed = again.in_photo(vertices_of(photos._layer, again))
    np.testing.assert_allclose(found.placed, placed - [0, 0, (placed - found.placed)[:, 2].mean()], atol=0.05)


def test_a_topology_without_an_embedding_is_one_line(tmp_path):
    face = demo()
    model = replace(face.model, faces=face.model.faces[::-1].copy())
    with pytest.raises(InputError, match="point-embedding"):
        PhotoFitter(replace(face, model=model, folder=tmp_path))
