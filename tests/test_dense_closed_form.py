"""Closed forms against numpy and against what they are for."""

import numpy as np
import pytest

from face4d.dense.closed_form import (
    NormalEquations,
    choose_strength,
    distance_penalty,
    interpolation_matrix,
    principal_map,
    regional_ridge,
    ridge,
)


@pytest.fixture
def data():
    random = np.random.default_rng(1)
    inputs = random.normal(size=(80, 12))  # 4 landmarks
    targets = inputs @ random.normal(size=(12, 21)) + 0.1 * random.normal(size=(80, 21))  # 7 vertices
    return inputs, targets


def test_ridge_is_least_squares_with_a_penalty(data):
    inputs, targets = data
    wanted = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    np.testing.assert_allclose(ridge(NormalEquations.of(inputs, targets), 0.0), wanted, atol=1e-10)
    padded = np.concatenate([inputs, np.sqrt(80 * 0.3) * np.eye(12)])  # the penalty as further equations
    wanted = np.linalg.lstsq(padded, np.concatenate([targets, np.zeros((12, 21))]), rcond=None)[0]
    np.testing.assert_allclose(ridge(NormalEquations.of(inputs, targets), 0.3), wanted, atol=1e-10)


def test_equations_gathered_in_pieces_are_those_of_the_whole(data):
    inputs, targets = data
    pieces = NormalEquations.empty(12, 21)
    for part in np.array_split(np.arange(80), 7):
        pieces.add(inputs[part].astype(np.float32), targets[part].astype(np.float32))
    whole = NormalEquations.of(inputs, targets)
    assert pieces.count == 80
    np.testing.assert_allclose(pieces.gram, whole.gram, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(pieces.cross, whole.cross, rtol=1e-5, atol=1e-4)


def test_regional_ridge_solves_every_vertex_with_its_own_penalty(data):
    inputs, targets = data
    penalty = np.random.default_rng(2).uniform(1, 50, (7, 4))
    found = regional_ridge(NormalEquations.of(inputs, targets), 0.02, penalty).reshape(12, 7, 3)
    for vertex in range(7):
        system = inputs.T @ inputs + 80 * 0.02 * np.diag(np.repeat(penalty[vertex], 3))
        wanted = np.linalg.solve(system, inputs.T @ targets.reshape(80, 7, 3)[:, vertex])
        np.testing.assert_allclose(found[:, vertex], wanted, atol=1e-10)
    same = regional_ridge(NormalEquations.of(inputs, targets), 0.02, np.ones((7, 4)))
    np.testing.assert_allclose(same, ridge(NormalEquations.of(inputs, targets), 0.02), atol=1e-10)


def test_penalty_doubles_at_the_reach():
    penalty = distance_penalty(np.array([[0.0, 0, 0], [0.01, 0, 0]]), np.array([[0.0, 0, 0]]), 0.01)
    np.testing.assert_allclose(penalty, [[1], [2]])


@pytest.mark.parametrize("vertices", [6, 40])  # fewer and more coordinates than frames
def test_principal_map_finds_motion_that_lies_in_few_components(vertices):
    random = np.random.default_rng(3)
    modes = random.normal(size=(5, 3 * vertices))
    landmarks = np.eye(3 * vertices)[:, :12]  # four vertices are the landmarks
    targets = random.normal(size=(60, 5)) @ modes
    decode = principal_map(targets @ landmarks, targets, 5)(0.0)
    unseen = random.normal(size=(9, 5)) @ modes
    np.testing.assert_allclose(unseen @ landmarks @ decode, unseen, atol=1e-8)
    few = principal_map(targets @ landmarks, targets, 2)(0.0)
    assert np.linalg.matrix_rank(few) == 2
    shrunk = principal_map(targets @ landmarks, targets, 5)(1e9)
    assert np.abs(shrunk).max() < 1e-6


def test_choice_of_strength_is_the_best_on_held_out_groups():
    random = np.random.default_rng(4)
    inputs = random.normal(size=(60, 30))
    truth = random.normal(size=(30, 9)) * 0.2
    targets = inputs @ truth + 2 * random.normal(size=(60, 9))
    groups = np.arange(60) % 3

    def fit(some, wanted):
        equations = NormalEquations.of(some, wanted)
        return lambda strength: lambda seen: seen @ ridge(equations, strength)

    def error(strength):
        parts = []
        for group in range(3):
            held = groups == group
            difference = fit(inputs[~held], targets[~held])(strength)(inputs[held]) - targets[held]
            parts.append(np.linalg.norm(difference.reshape(20, 3, 3), axis=2))
        return np.mean(parts)

    choice = choose_strength(fit, inputs, targets, groups, range(-4, 4))
    assert choice.error == pytest.approx(error(choice.strength))
    assert choice.strength > 0.1  # weak signal under strong noise
    assert all(choice.error <= error(10.0**exponent) + 1e-12 for exponent in range(-4, 4))
    clean = choose_strength(fit, inputs, inputs @ truth, groups, range(-4, 4))
    assert clean.strength <= 1e-4


def test_splines_pass_through_landmarks_and_carry_shifts():
    random = np.random.default_rng(5)
    landmarks, vertices = random.normal(size=(9, 3)), random.normal(size=(30, 3))
    moved = random.normal(size=(9, 3))
    np.testing.assert_allclose(interpolation_matrix(landmarks, landmarks, 0.0).T @ moved, moved, atol=1e-9)
    shift = np.tile([1.0, 2.0, 3.0], (9, 1))
    np.testing.assert_allclose(
        interpolation_matrix(landmarks, vertices, 0.5).T @ shift, np.tile([1.0, 2.0, 3.0], (30, 1)), atol=1e-9
    )
    smooth = interpolation_matrix(landmarks, landmarks, 100.0).T @ moved
    assert np.ptp(smooth, axis=0).max() < 0.2 * np.ptp(moved, axis=0).max()


def test_splines_bear_landmarks_at_one_place():
    landmarks = np.random.default_rng(6).normal(size=(9, 3))
    landmarks[8] = landmarks[0]
    moved = np.ones((9, 3))
    moved[[0, 8]] = 3.0
    np.testing.assert_allclose(interpolation_matrix(landmarks, landmarks, 0.0).T @ moved, moved, atol=1e-8)


def test_the_penalty_grows_with_the_square_of_the_distance():
    vertices, landmarks = np.array([[0, 0, 0], [3, 4, 0], [0, 0, 10.0]]), np.array([[0, 0, 0], [0, 0, 5.0]])
    expected = 1 + np.array([[0, 25], [25, 50], [100, 25]]) / 10.0**2
    np.testing.assert_allclose(distance_penalty(vertices, landmarks, 10.0), expected)


@pytest.mark.parametrize("frames", [9, 60])  # fewer and more than coordinates
@pytest.mark.parametrize("strength", [0.0, 0.3, 20.0])
def test_principal_coefficients_minimise_what_they_are_said_to(frames, strength):
    """|L c - x|^2 + s c^T D^-1 c with Y ~ U S V^T, L = X^T U S^-1 and D = S^2 / N; the shape is V c."""
    draw = np.random.default_rng(0)
    targets = draw.normal(size=(frames, 30)) * np.geomspace(5, 0.5, 30)
    inputs = targets @ draw.normal(size=(30, 12)) + 0.1 * draw.normal(size=(frames, 12))
    left, singular, components = np.linalg.svd(targets, full_matrices=False)
    left, singular, components = left[:, :6], singular[:6], components[:6]
    seen, variance = inputs.T @ left / singular, singular**2 / frames  # (P, K), (K,)
    x = draw.normal(size=12)
    stacked = np.concatenate([seen, np.sqrt(strength) * np.diag(variance**-0.5)])  # the same as plain least squares
    coefficients = np.linalg.lstsq(stacked, np.concatenate([x, np.zeros(6)]), rcond=None)[0]
    np.testing.assert_allclose(x @ principal_map(inputs, targets, 6)(strength), coefficients @ components, atol=1e-8)


@pytest.mark.parametrize(("optimum", "chosen"), [(1.3, 1.5), (0.7, 0.5), (1.1, 1.0), (9.0, 3.5), (-9.0, -1.5)])
def test_strengths_are_powers_of_ten_then_half_a_power_around_the_best(optimum, chosen):
    groups, fitted = np.array([0, 1, 1, 2]), []
    inputs, targets = np.arange(4.0)[:, None], np.zeros((4, 6))

    def fit(known, wanted):
        fitted.append(sorted(known[:, 0].tolist()))
        assert len(known) == len(wanted)
        off = np.array([0.6, 0, 0.8, 0, 1, 0])  # two points, each 1 from its place
        return lambda strength: lambda seen: abs(np.log10(strength) - optimum) * np.tile(off, (len(seen), 1))

    choice = choose_strength(fit, inputs, targets, groups, range(-1, 4))
    assert choice.strength == pytest.approx(10**chosen) and choice.error == pytest.approx(abs(chosen - optimum))
    assert fitted == [[1, 2, 3], [0, 3], [0, 1, 2]]  # without the group that is held out


def test_errors_of_held_out_frames_count_each_frame_once():
    groups = np.array([0, 1, 1, 1])
    fit = lambda known, wanted: lambda strength: lambda seen: np.repeat(seen, 3, axis=1)  # noqa: E731
    inputs = np.array([[8.0], [0.0], [0.0], [0.0]])
    assert choose_strength(fit, inputs, np.zeros((4, 3)), groups, [0]).error == pytest.approx(8 * 3**0.5 / 4)
