"""The demo head as a FLAME model: posing it looks like the demo's own movements, and nothing tears."""

import numpy as np
import pytest
import torch

from face4d.demo.expressions import ACTION_UNITS, JAW_DEGREES, deform
from face4d.demo.flame import demo_flame_model
from face4d.demo.head import EYE, demo_head, identity_weights
from face4d.flame.layer import FlameLayer
from face4d.flame.model import load_flame_model, save_flame_model


@pytest.fixture(scope="module")
def head():
    return demo_head(0)


@pytest.fixture(scope="module")
def layer():
    return FlameLayer(demo_flame_model(0), num_shape=300, num_expression=100, dtype=torch.float64)


def pose(*values):
    return torch.tensor([values], dtype=torch.float64)


def unit(name, value=1.0):
    weights = np.zeros((2, len(ACTION_UNITS)))
    weights[:, ACTION_UNITS.index(name)] = value
    return weights


def test_it_is_a_flame_file_like_any_other(tmp_path, head):
    model = demo_flame_model(0)
    save_flame_model(tmp_path / "generic_model.npz", model)
    loaded = load_flame_model(tmp_path)
    assert loaded.shape_directions.shape[2] == 300 and loaded.expression_directions.shape[2] == 100
    np.testing.assert_array_equal(loaded.faces, head.faces)
    np.testing.assert_allclose(loaded.template, head.mean, atol=1e-7)
    assert (tmp_path / "generic_model.npz").stat().st_size < 1_000_000


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_the_jaw_opens_as_in_the_demo(head, layer, share):
    posed = layer(jaw_pose=pose(np.deg2rad(share * JAW_DEGREES), 0, 0)).vertices[0].numpy()
    assert 1e3 * np.linalg.norm(posed - deform(head, head.mean, unit("jaw_open", share)), axis=1).max() < 0.1


def test_people_and_expressions_lie_in_the_model(head, layer):
    model = demo_flame_model(0)
    for directions, target in (
        (model.shape_directions, head.neutral(identity_weights(1, 4))),
        (model.expression_directions, deform(head, head.mean, unit("stretch", 0.8))),
        (model.expression_directions, deform(head, head.mean, unit("brow_outer_up"))),
    ):
        flat = directions.reshape(-1, directions.shape[2]).astype(np.float64)
        used = np.flatnonzero(np.abs(flat).max(axis=0))
        wanted = (target - head.mean).ravel()
        left = wanted - flat[:, used] @ np.linalg.lstsq(flat[:, used], wanted, rcond=None)[0]
        assert 1e3 * np.abs(left).max() < 0.05
        lengths = np.linalg.norm(flat, axis=0)
        assert (np.diff(lengths) <= 1e-9).all() and not lengths[len(used) :].any()


def test_joints_sit_in_their_places_for_everybody(head, layer):
    for subject in range(3):
        neutral = head.neutral(identity_weights(0, subject))
        joints = demo_flame_model(0).joint_regressor.astype(np.float64) @ neutral
        np.testing.assert_allclose(joints[[4, 3]], head.eye_centers(neutral), atol=1e-6)
        np.testing.assert_allclose(joints[:3, 0], 0, atol=1e-6)
        assert joints[0, 1] < joints[1, 1] < joints[2, 1] < joints[3, 1]


def test_eyes_turn_in_their_sockets(head, layer):
    moved = layer(eye_pose=pose(0, 0.3, 0, 0, 0, 0)).vertices[0].numpy() - head.mean
    left = (head.kind == EYE) & (head.side > 0)
    assert 1e3 * np.linalg.norm(moved[left], axis=1).max() > 3
    assert 1e3 * np.linalg.norm(moved[~left], axis=1).max() < 1e-3
    front = left & (head.mean[:, 2] == head.mean[left, 2].max())
    assert moved[front, 0].min() > 0  # positive turns look to the subject's left


def test_the_neck_turns_without_tearing(head, layer):
    edges = np.unique(
        np.sort(np.concatenate([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]]), axis=1), axis=0
    )
    rest = np.linalg.norm(np.diff(head.mean[edges], axis=1)[:, 0], axis=1)
    for turn in ((0, 0.6, 0), (0.35, 0, 0), (-0.35, 0, 0), (0, 0, 0.35)):
        posed = layer(neck_pose=pose(*turn)).vertices[0].numpy()
        length = np.linalg.norm(np.diff(posed[edges], axis=1)[:, 0], axis=1)
        assert (length < 1.6 * rest + 0.001).all()
        bottom = head.q <= -168
        np.testing.assert_allclose(posed[bottom], head.mean[bottom], atol=1e-6)  # the shoulders stay
    above = np.flatnonzero(head.q > -90)  # skull, face and jaw are one rigid piece
    turned = layer(neck_pose=pose(0, 0.6, 0)).vertices[0].numpy()
    np.testing.assert_allclose(
        *(np.linalg.norm(points[above] - points[above[:1]], axis=1) for points in (turned, head.mean)), atol=1e-6
    )
    nose = np.argmax(head.mean[:, 2])
    assert turned[nose, 0] > 0.03


def test_weights_are_shares_and_mirror(head):
    model = demo_flame_model(0)
    assert model.skin_weights.min() >= 0
    np.testing.assert_allclose(model.skin_weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(model.skin_weights[head.mirror][:, [0, 1, 2, 4, 3]], model.skin_weights, atol=1e-6)
