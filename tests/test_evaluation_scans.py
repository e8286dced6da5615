"""The NoW protocol on surfaces whose distance is known."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from face4d.commands.scan_to_mesh import main
from face4d.errors import InputError
from face4d.evaluation.scans import SEVEN, face_region, pooled, scan_to_mesh, seven_landmarks
from face4d.mesh.geometry import closest_points, fit_similarity
from face4d.mesh.plausibility import MEAN_FACE
from face4d.mesh.ply import write_ply

# a flat face of 0.2 x 0.2 m, and seven points on it: eyes at y 0.03, nose at 0, mouth at -0.03
SIDE = np.linspace(-0.1, 0.1, 21)
GRID = np.stack([*np.meshgrid(SIDE, SIDE), np.zeros((21, 21))], axis=-1).reshape(-1, 3)
CORNER = (np.arange(20)[:, None] * 21 + np.arange(20)).ravel()
FACES = np.concatenate(
    [np.stack([CORNER, CORNER + 1, CORNER + 21], 1), np.stack([CORNER + 1, CORNER + 22, CORNER + 21], 1)]
)
MARKS = np.array(
    [
        [-0.045, 0.03, 0],
        [-0.015, 0.03, 0],
        [0.015, 0.03, 0],
        [0.045, 0.03, 0],
        [0, 0, 0],
        [-0.02, -0.03, 0],
        [0.02, -0.03, 0.0],
    ]
)


def test_distance_does_not_depend_on_where_and_how_large_the_mesh_is():
    draw = np.random.default_rng(0)
    height = np.abs(draw.normal(0, 0.002, len(GRID)))
    scan = GRID + height[:, None] * [0, 0, 1]
    rotation = Rotation.random(random_state=3).as_matrix()
    result = scan_to_mesh(scan, MARKS, 80 * GRID @ rotation.T + 5, FACES, 80 * MARKS @ rotation.T + 5)
    expected = 1000 * height[face_region(scan, MARKS)]
    np.testing.assert_allclose(result.distances, expected, atol=1e-9)
    assert (result.median, result.mean, result.std) == pytest.approx(
        (np.median(expected), expected.mean(), expected.std())
    )
    assert result.similarity.scale == pytest.approx(1 / 80)


def test_only_the_face_is_measured_by_a_ball():
    region = face_region(GRID, MARKS)
    # 1.4 times the mean of 90 mm between the outer eye corners and 30 mm from the nose to between the eyes; centre 9 mm
    # above the nose
    np.testing.assert_array_equal(region, np.linalg.norm(GRID - [0, 0.009, 0], axis=1) <= 0.084)
    place = np.array([0.3, -0.2, 0.1])
    np.testing.assert_array_equal(face_region(GRID + place, MARKS + place), region)
    far = np.concatenate([GRID, [[0, 0, 5.0]]])
    assert scan_to_mesh(far, MARKS, GRID, FACES, MARKS).distances.max() < 1e-9
    assert scan_to_mesh(far, MARKS, GRID, FACES, MARKS, radius=np.inf).distances.max() == pytest.approx(5000)


def test_one_direction_only():
    half = GRID[GRID[:, 0] < 0]
    assert scan_to_mesh(half, MARKS, GRID, FACES, MARKS).distances.max() < 1e-9


def test_refinement_corrects_landmarks_that_are_off():
    curved = GRID - [0, 0, 1] * (8 * (GRID[:, :1] ** 2 + 0.5 * GRID[:, 1:2] ** 2))
    draw = np.random.default_rng(1)
    off = MARKS + draw.normal(0, 0.003, MARKS.shape)
    plain = scan_to_mesh(curved, MARKS, curved, FACES, off)
    refined = scan_to_mesh(curved, MARKS, curved, FACES, off, refine=50)
    assert refined.mean < 0.5 * plain.mean


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("rounds", [2, 200])
def test_refinement_repeats_closest_points_and_alignment_until_it_gains_less_than_a_ten_thousandth(scaled, rounds):
    """Iterative closest points (Besl and McKay, 1992), in the mesh's own frame."""
    curved = GRID - [0, 0, 1] * (8 * (GRID[:, :1] ** 2 + 0.5 * GRID[:, 1:2] ** 2))
    off = MARKS + np.random.default_rng(2).normal(0, 0.002, MARKS.shape)
    scan = curved[::4] + np.random.default_rng(3).normal(0, 0.001, curved[::4].shape)
    points = scan[face_region(scan, MARKS)]

    def measured(aligned):
        local = (points - aligned.translation) @ aligned.rotation / aligned.scale
        found = closest_points(local, curved, FACES)
        return (found.bary[..., None] * curved[FACES[found.face]]).sum(axis=1), aligned.scale * found.distance

    best = fit_similarity(off, MARKS, scaled=scaled)
    closest, distances = measured(best)
    for _ in range(rounds):
        aligned = fit_similarity(closest, points, scaled=scaled)
        closest, now = measured(aligned)
        before, after = np.mean(distances**2), np.mean(now**2)
        if after < before:
            best, distances = aligned, now
        if after > (1 - 1e-4) * before:
            break
    assert (after > (1 - 1e-4) * before) == (rounds == 200)
    result = scan_to_mesh(scan, MARKS, curved, FACES, off, refine=rounds, scaled=scaled)
    np.testing.assert_allclose(result.distances, 1000 * distances, atol=1e-9)
    assert result.similarity.scale == best.scale and (scaled or best.scale == 1)


def test_pooling_weighs_every_point_alike():
    one = scan_to_mesh(GRID, MARKS, GRID, FACES, MARKS)
    two = scan_to_mesh(GRID[:50] + [0, 0, 0.001], MARKS, GRID, FACES, MARKS, radius=np.inf)
    total = pooled([one, two])
    assert total["points"] == len(one.distances) + 50
    assert total["mean"] == pytest.approx(50 / total["points"]) and total["median"] == pytest.approx(0, abs=1e-9)
    assert total["std"] == pytest.approx(np.std(np.concatenate([one.distances, two.distances]))) != two.std


def test_seven_of_68():
    points = np.arange(68 * 3.0).reshape(68, 3)
    np.testing.assert_array_equal(seven_landmarks(points), points[list(SEVEN)])
    assert seven_landmarks(MARKS) is MARKS


def test_the_seven_are_the_corners_of_eyes_and_mouth_and_the_point_under_the_nose():
    x, y = MEAN_FACE[:, 0], MEAN_FACE[:, 1]  # the subject's right is at -x
    right_eye, left_eye, nose, mouth = (np.arange(*ends) for ends in ((36, 42), (42, 48), (27, 36), (48, 60)))
    under_nose = nose[np.lexsort((y[nose], np.abs(x[nose]).round(6)))[0]]  # the lowest of those in the middle
    eyes = (
        right_eye[x[right_eye].argmin()],
        right_eye[x[right_eye].argmax()],
        left_eye[x[left_eye].argmin()],
        left_eye[x[left_eye].argmax()],
    )
    assert SEVEN == (*eyes, under_nose, mouth[x[mouth].argmin()], mouth[x[mouth].argmax()])


def test_without_points_near_the_landmarks_nothing_is_measured():
    with pytest.raises(ValueError, match="no point of the scan"):
        scan_to_mesh(GRID + 5, MARKS, GRID, FACES, MARKS)
    with pytest.raises(ValueError, match="without faces"):
        scan_to_mesh(GRID, MARKS, GRID, FACES[:0], MARKS)


@pytest.fixture
def folders(tmp_path):
    """Scans a and b in millimetres (b 2 mm before its mesh), a mesh of each, one of them in a folder."""
    for name, shift in (("a", 0.0), ("b", 0.002)):
        (tmp_path / "scans").mkdir(exist_ok=True)
        write_ply(tmp_path / "scans" / f"{name}.ply", 1000 * (GRID + [0, 0, shift]), np.empty((0, 3), int))
        np.savetxt(tmp_path / "scans" / f"{name}.txt", 1000 * MARKS)
    (tmp_path / "meshes" / "b").mkdir(parents=True)
    write_ply(tmp_path / "meshes" / "a_photo1.ply", GRID, FACES)
    write_ply(tmp_path / "meshes" / "b" / "neutral.ply", GRID, FACES)
    (tmp_path / "points").mkdir()
    np.save(tmp_path / "points" / "a_photo1.npy", MARKS)
    np.save(tmp_path / "points" / "neutral.npy", MARKS)
    return tmp_path


def test_folders_of_scans_and_meshes(folders, run_script):
    flags = ("--scans", "scans", "--meshes", "meshes", "--mesh-landmarks", "points", "--unit", "mm", "--quiet")
    result = run_script("face4d scan-to-mesh", *flags, "--output", "out", cwd=folders)
    found = json.loads((folders / "out" / "scan_to_mesh.json").read_text())
    assert [(row["mesh"], row["scan"]) for row in found["meshes"]] == [("a_photo1.ply", "a"), ("b/neutral.ply", "b")]
    np.testing.assert_allclose([row["median"] for row in found["meshes"]], [0, 2], atol=1e-4)
    assert found["meshes"][0]["scale"] == pytest.approx(1000, rel=1e-4) and found["all"]["mean"] == pytest.approx(
        1, abs=0.05
    )
    assert "all points" in result.stdout and result.stdout.strip().splitlines()[-1] == "wrote out/scan_to_mesh.json"

    again = run_script("face4d scan-to-mesh", *flags, "--output", "out", cwd=folders, check=False)
    assert again.returncode == 2 and "--overwrite" in again.stderr
    (folders / "meshes" / "a_photo1.ply").rename(folders / "meshes" / "c.ply")
    stray = run_script("face4d scan-to-mesh", *flags, cwd=folders, check=False)
    assert stray.returncode == 2 and "c.ply: expected a mesh named after one of the scans (a, b)" in stray.stderr


def run(*arguments, folder) -> dict:
    """The command in this process; its record."""
    flags = (
        "--scans",
        folder / "scans",
        "--meshes",
        folder / "meshes",
        "--mesh-landmarks",
        folder / "points",
        "--quiet",
        "--overwrite",
    )
    main([*map(str, flags), "--output", str(folder / "out"), *arguments])
    return json.loads((folder / "out" / "scan_to_mesh.json").read_text())


def test_the_unit_of_scans_is_guessed_and_said(folders, caplog):
    expected = run("--unit", "mm", folder=folders)
    assert not caplog.records
    assert run(folder=folders) == expected
    (note,) = caplog.messages
    assert "taken for millimetres (--unit says otherwise)" in note and "a.txt: outer eye corners" in note
    with pytest.raises(
        InputError,
        match=r"a.txt: expected a face in metres \(outer eye corners about 0.095\), found .*: "
        r"millimetres \(times 0.001",
    ):
        run("--unit", "m", folder=folders)
    with pytest.raises(InputError, match="a.txt: expected a face in metres"):
        run("--unit", "cm", folder=folders)


def test_a_scan_or_mesh_in_another_unit_than_the_rest_is_named(folders):
    np.savetxt(folders / "scans" / "b.txt", MARKS)
    with pytest.raises(InputError, match=r"b.txt: expected a face in metres .*"):
        run(folder=folders)
    write_ply(folders / "scans" / "b.ply", GRID, np.empty((0, 3), int))
    np.savetxt(folders / "scans" / "b.txt", 1000 * MARKS)
    with pytest.raises(
        InputError, match="b.ply: expected a face in metres .*longest side.* kilometres|b.ply: .*0.0002"
    ):
        run(folder=folders)


def test_meshes_of_a_fixed_size_have_to_be_in_the_unit_of_the_scans(folders):
    with pytest.raises(InputError, match="a_photo1.ply: expected a face in metres .*outer eye corners"):
        run("--no-scaled", folder=folders)
    for mesh, points in (
        (folders / "meshes" / "a_photo1.ply", "a_photo1.npy"),
        (folders / "meshes" / "b" / "neutral.ply", "neutral.npy"),
    ):
        write_ply(mesh, 1000 * GRID, FACES)
        np.save(folders / "points" / points, 1000 * MARKS)
    assert [row["scale"] for row in run("--no-scaled", folder=folders)["meshes"]] == [1.0, 1.0]


def test_landmarks_that_are_no_face(folders):
    for marks, words in (
        (0 * MARKS, "all points in one place"),
        (7 * MARKS, "times as large"),
        (1e200 * MARKS, "single precision"),
    ):
        np.savetxt(folders / "scans" / "a.txt", marks)
        with pytest.raises(InputError, match=rf"a.txt: .*{words}"):
            run(folder=folders)
