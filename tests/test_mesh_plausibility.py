"""Sizes, shapes and motions that faces have, and those that they have not."""

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh.plausibility import (
    EYES_APART,
    EYES_RANGE,
    FACE_SIZE,
    FACE_SIZES,
    MEAN_FACE,
    Remark,
    as_float32,
    check_face,
    check_frames,
    check_head,
    check_jumps,
    check_size,
    face_remarks,
    face_size,
    first_jump,
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


def test_a_shape_does_not_depend_on_place_and_size():
    face = FACE + np.random.default_rng(0).normal(0, 0.01, (68, 3))
    assert shape_of(3 * face + [1, 2, -4]) == pytest.approx(shape_of(face), abs=1e-9)
    assert face_size(3 * face + [1, 2, -4]) == pytest.approx(3 * face_size(face))
    assert face_size(FACE) == pytest.approx(FACE_SIZE) and FACE_SIZE == 0.058
    with pytest.raises(InputError, match="found frame 0 58: millimetres"):
        check_face("a.npy", np.stack([1000 * FACE, FACE]))
    with pytest.raises(InputError, match="found 58: millimetres"):
        check_face("a.npy", 1000 * FACE)


def test_disorder_that_is_nearer_to_the_mirrored_face_is_not_called_mirrored():
    draw, tried = np.random.default_rng(0), 0
    for _ in range(200):
        points = FACE * [-1, *draw.uniform(0.3, 3, 2)] + draw.normal(0, 0.03, (68, 3)) * draw.uniform(0, 2, 3)
        _, misfit, mirrored = shape_of(points)
        if 0.5 < mirrored < 0.7 * misfit:  # in sizes of the face: half of it is nothing in common with a face any more
            check_face("a.npy", points * FACE_SIZE / face_size(points))
            tried += 1
    assert tried > 3


def test_shape_of_a_mirrored_face():
    assert shape_of(FACE) == pytest.approx((0, 0, 0.592), abs=1e-3)
    assert shape_of(FACE * [-1, 1, 1])[1:] == pytest.approx((0.592, 0), abs=1e-3)


def test_motion():
    time = np.linspace(0, 1, 20)[:, None, None]
    moving = FACE + 0.02 * np.sin(np.pi * time) * np.random.default_rng(0).normal(size=FACE.shape)
    assert motion_remarks("a", moving) == []
    assert motion_remarks("a", FACE - 0.01 * time) == [] != motion_remarks("a", FACE - 1e-6 * time)
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


def test_frames_of_another_unit_begin_at_eight_times_the_size():
    for other in (FACE / 8, 8 * FACE):
        check_frames("a.npy", np.stack([FACE, other]))
    for other in (FACE / 8.1, 8.1 * FACE):
        with pytest.raises(InputError, match="found frame 1 "):
            check_frames("a.npy", np.stack([FACE, other]))


def test_a_jump_is_of_the_whole_face_or_far_of_one_point():
    still = np.repeat(FACE[None], 5, axis=0)
    for move, points, found in ((0.049, slice(None), None), (0.051, slice(None), 3), (0.079, 30, None), (0.081, 30, 3)):
        moved = still.copy()
        moved[3:, points, 1] += move
        jump = first_jump(moved)
        assert jump is None if found is None else jump == (found, pytest.approx(move))
    paths = [f"{k}.ply" for k in range(5)]
    with pytest.raises(InputError, match="3.ply: expected points near those of 2.ply, found one 81 mm off$"):
        check_jumps(paths, moved)
    for factor, words in (
        (1 / 8, ", the whole 0.125 times as large"),
        (1 / 7, "$"),
        (7, "$"),
        (8, ", the whole 8 times as large"),
    ):
        with pytest.raises(InputError, match=rf"1.ply: .* found one \d+ mm off{words}"):
            check_jumps(paths, np.stack([1.5 * FACE, factor * 1.5 * FACE]))


def test_the_ends_of_a_range_of_sizes_are_in_it():
    for size in (0.045, 0.2):
        check_size("a", size, 0.095, (0.045, 0.2), "eyes")
    for size in (0.0449, 0.2001):
        with pytest.raises(InputError, match=r"a: expected a face in metres \(eyes about 0.095\)"):
            check_size("a", size, 0.095, (0.045, 0.2), "eyes")


def test_eyes_of_children_and_giants_are_let_in_and_no_others():
    """As far apart as in a face of half the size and of twice the size, and not much beyond."""
    for factor in (0.5, 1, 2):
        assert unit_of(factor * EYES_APART, EYES_APART, EYES_RANGE) == ("metres", 1.0)
    for factor in (0.4, 2.3):
        assert not EYES_RANGE[0] <= factor * EYES_APART <= EYES_RANGE[1]


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


@pytest.mark.parametrize(
    ("size", "body", "fits"),
    [
        (0.07, False, False),
        (0.09, False, True),
        (0.75, False, True),
        (0.85, False, False),
        (0.85, True, True),
        (2.9, True, True),
        (3.1, True, False),
    ],
)
def test_heads_and_bodies_by_their_longest_side(size, body, fits):
    vertices = size * (np.random.default_rng(0).permutation(np.linspace(0, 1, 60)).reshape(20, 3) ** [1, 2, 3])
    vertices[0], vertices[1] = 0, [size / 3, size, size / 2]
    if fits:
        check_head("a.ply", vertices, body=body)
    else:
        with pytest.raises(InputError, match=r"a.ply: expected a face in metres \(a head's longest side about 0.3\)"):
            check_head("a.ply", vertices, body=body)
