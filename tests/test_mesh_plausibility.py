"""Sizes, shapes and motions that faces have, and those that they have not."""

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh.plausibility import (
    FACE_SIZE,
    FACE_SIZES,
    MEAN_FACE,
    Remark,
    as_float32,
    check_face,
    check_frames,
    check_head,
    check_jumps,
    face_remarks,
    face_size,
    motion_remarks,
    report,
    shape_of,
    unit_of,
)

FACE = FACE_SIZE * MEAN_FACE


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("millimetres", 1e-3), ("centimetres", 1e-2), ("inches", 0.0254), ("micrometres", 1e-6), ("kilometres", 1e3)],
)
@pytest.mark.parametrize("size", [0.85, 1.0, 1.15])
def test_other_units_are_named_with_their_factor(unit, factor, size):
    with pytest.raises(
        InputError, match=rf"a.npy: expected a face in metres .* {unit} \(times {factor:g} gives metres\)"
    ):
        check_face("a.npy", size * FACE / factor)
    if unit != "kilometres":  # a head of 0.3 mm is as well some other thing
        vertices = size * np.random.default_rng(0).uniform(-0.15, 0.15, (500, 3))
        with pytest.raises(InputError, match=rf"{unit} \(times {factor:g} gives metres\)"):
            check_head("a.ply", vertices / factor)


@pytest.mark.parametrize("size", [0.55, 1.0, 1.9])
def test_children_and_giants_are_let_in(size):
    check_face("a.npy", size * FACE)


@pytest.mark.parametrize(
    ("face", "words"),
    [
        (0 * FACE, "all points in one place"), (FACE * 2.2, "2.2 times as large"),
        (FACE * [-1, 1, 1], "mirrored left to right"), (FACE * [1, -1, 1], "mirrored"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_face(face, words):
    with pytest.raises(InputError, match=words):
        check_face("a.npy", face)


def rotation(axis: int, degrees: float) -> np.ndarray:
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix, angle = np.eye(3), np.radians(degrees)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


@pytest.mark.parametrize(("axis", "degrees"), [(0, 90), (0, -90), (2, 180), (1, 180), (1, 60)])
def test_lying_and_turned_heads_are_odd(axis, degrees):
    turned = FACE @ rotation(axis, degrees).T
    check_face("a.npy", turned)
    (remark,) = face_remarks("a.npy", turned)
    assert "stand upright" in remark.what and f"by {abs(degrees)} degrees" in remark.where
    assert not face_remarks("a.npy", FACE @ rotation(axis, 20).T)


def test_points_in_disorder_are_no_face():
    noise, shuffled = np.random.default_rng(0).normal(0, 0.03, (68, 3)), np.random.default_rng(1).permutation(FACE)
    for points in (noise, shuffled, np.concatenate([FACE[17:], FACE[:17]])):
        check_face("a.npy", points)
        assert "no face in the order" in face_remarks("a.npy", points)[0].what


def test_real_faces_and_the_demo_at_three_times_their_intensity(shared_data):
    for path in sorted((shared_data / "landmarks_florence").rglob("*.npy"))[::10]:
        landmarks = np.load(path)
        for intensity in (1, 3):
            moved = landmarks[0] + intensity * (landmarks - landmarks[0])
            sizes = face_size(moved)
            assert sizes.min() > FACE_SIZES[0] and sizes.max() < FACE_SIZES[1]
            check_face(path, moved)
            check_frames(path, moved)
            assert not face_remarks("a", moved[sizes.argmax()]) and not motion_remarks("a", moved)


def test_shape_of_a_mirrored_face():
    assert shape_of(FACE) == pytest.approx((0, 0, 0.592), abs=1e-3)
    assert shape_of(FACE * [-1, 1, 1])[1:] == pytest.approx((0.592, 0), abs=1e-3)


def test_motion():
    time = np.linspace(0, 1, 20)[:, None, None]
    moving = FACE + 0.02 * np.sin(np.pi * time) * np.random.default_rng(0).normal(size=FACE.shape)
    assert not motion_remarks("a", moving)
    assert motion_remarks("a", np.repeat(FACE[None], 3, axis=0)) == [Remark("nothing moves", "a (3 frames)")]
    assert motion_remarks("a", FACE[None]) == [Remark("nothing moves", "a (1 frame)")]
    moving[7] += [0, 0.06, 0]
    assert motion_remarks("a", moving)[0].where.startswith("a (at frame 7 by ")
    paths = [f"f.{k}.ply" for k in range(20)]
    with pytest.raises(InputError, match=r"f.7.ply: expected points near those of f.6.ply, found one \d+ mm off$"):
        check_jumps(paths, moving)
    moving[7] = 1000 * FACE
    with pytest.raises(InputError, match="f.7.ply: .* times as large"):
        check_jumps(paths, moving)
    with pytest.raises(InputError, match=r"a.npy: .*found frame 7 .*millimetres \(times 0.001"):
        check_frames("a.npy", moving)
    moving[7] = 0
    for check in (lambda: check_jumps(paths, moving), lambda: check_frames("a.npy", moving)):
        with pytest.raises(InputError, match="in one place"):
            check()


def test_single_precision_holds_what_it_holds():
    points = np.array([[1.0, 2.0, 3.0], [1e200, 0, 0]])
    with pytest.raises(
        InputError, match=r"a.npy: expected finite coordinates \(within single precision\), found 1e\+200 at \[1, 0\]"
    ):
        as_float32("a.npy", points)
    assert as_float32("a.npy", points[:1]).dtype == np.float32


def test_units_by_size():
    assert unit_of(95.0, 0.095, (0.045, 0.2)) == ("millimetres", 1e-3)
    assert unit_of(0.1, 0.095, (0.045, 0.2)) == ("metres", 1.0)
    assert unit_of(3.7, 0.095, (0.045, 0.2)) == ("inches", 0.0254)


def test_one_line_for_all_that_is_odd_in_one_way(caplog):
    report("root", [Remark("nothing moves", name) for name in "abcba"] + [Remark("jumps", "d"), Remark("lies", "root")])
    assert [record.getMessage() for record in caplog.records] == [
        "note: root: nothing moves: a, b, c",
        "note: root: jumps: d",
        "note: root: lies",
    ]
