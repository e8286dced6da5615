"""The demo head: a sound mesh, plausible and distinct expressions, landmarks in place, files that others can read."""

import hashlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from face4d.constants import COMA_LABELS, FLORENCE_LABELS
from face4d.demo import surface
from face4d.demo.expressions import ACTION_UNITS, JAW_DEGREES, deform, jaw_hinge, jaw_weights, weights_of
from face4d.demo.flame import YAW_DEGREES, dynamic_embedding, static_embedding
from face4d.demo.head import EYE, IDENTITY_MODES, SKIN, TEETH, demo_head, identity_weights, vertex_colors
from face4d.demo.write import coma_length, demo_sequence, demo_subjects, sequence_weights, write_demo
from face4d.errors import InputError
from face4d.mesh.obj import read_obj
from face4d.mesh.ply import read_ply

LABELS = [*COMA_LABELS, *FLORENCE_LABELS]


@pytest.fixture(scope="module")
def head():
    return demo_head(0)


@pytest.fixture(scope="module")
def landmarks(head):
    """Function from vertices to the 51 static landmarks in millimetres."""
    face, weight = static_embedding(head)
    return lambda vertices: 1000 * np.einsum("lk,lkd->ld", weight, vertices[head.faces[face]])


def unit(name, value=1.0):
    weights = np.zeros((2, len(ACTION_UNITS)))
    weights[:, ACTION_UNITS.index(name)] = value
    return weights


def components(faces, count):
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    return connected_components(coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count)), directed=False)


@pytest.mark.parametrize("level", [0, 1])
def test_mesh_is_sound(level):
    head = demo_head(level)
    faces = head.faces.astype(np.int64)
    assert np.array_equal(np.unique(faces), np.arange(len(head.mean)))
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed), (
        "an edge used twice in one direction: winding is not consistent"
    )
    edges, uses = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    assert uses.max() == 2, "not a manifold"
    a, b, c = (head.mean[faces[:, k]] for k in range(3))
    doubled_area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    assert doubled_area.min() > 1e-9, "degenerate triangle"
    parts, part = components(faces, len(head.mean))
    assert parts == 5  # skin with the mouth pocket, two eyeballs, two rows of teeth
    characteristic, border = {}, {}
    for number in range(parts):
        inside = part[edges[:, 0]] == number
        characteristic[number] = (part == number).sum() - inside.sum() + (part[faces[:, 0]] == number).sum()
        border[number] = (uses[inside] == 1).sum()
    skin, left, right = part[0], *(part[(head.kind == EYE) & (head.side == s)][0] for s in (1, -1))
    assert characteristic[left] == characteristic[right] == 2 and border[left] == border[right] == 0  # closed balls
    assert characteristic[skin] == -1 and border[skin] > 0  # a sphere without neck and two eyes
    for number in part[head.kind == TEETH]:
        assert characteristic[number] == 1  # a band


def test_faces_look_outward(head):
    """Signed volume of eyeballs and, closed by a lid at the neck, of the head is positive."""

    def volume(faces):
        a, b, c = (head.mean[faces[:, k]] - head.mean[faces[0, 0]] for k in range(3))
        return np.einsum("fk,fk->", a, np.cross(b, c)) / 6

    for side in (-1, 1):
        eye = head.faces[((head.kind == EYE) & (head.side == side))[head.faces].all(axis=1)]
        assert volume(eye) == pytest.approx(4 / 3 * np.pi * 0.0132**3, rel=0.5)  # a coarse ball
    skin = head.faces[(head.kind[head.faces] < EYE).all(axis=1)]
    assert 2.5e-3 < volume(skin) < 6e-3  # litres of a head


def test_size_units_and_budget(head):
    assert 750 <= len(head.mean) <= 900
    assert 12 * len(head.mean) + 13 * len(head.faces) + 250 <= 32768
    assert demo_head(1).mean.shape[0] > 3.5 * len(head.mean)
    extent = np.ptp(head.mean, axis=0)
    assert 0.15 < extent[0] < 0.19 and 0.25 < extent[1] < 0.31
    middle = np.abs(head.mean[:, 0]) < 1e-9
    nose = head.mean[:, 2].argmax()
    assert middle[nose] and -0.02 < head.mean[nose, 1] < 0.0  # +z is where the nose points


def test_mirror_symmetry(head):
    np.testing.assert_allclose(head.mean[head.mirror], head.mean * [-1, 1, 1], atol=1e-12)
    for field in (unit("smile"), unit("jaw_open"), unit("brow_lower"), unit("lid_close")):
        face = deform(head, head.mean, field)
        np.testing.assert_allclose(face[head.mirror], face * [-1, 1, 1], atol=1e-9)


def test_identity_is_linear_and_people_differ(head):
    first, second = identity_weights(27, 0), identity_weights(27, 1)
    np.testing.assert_allclose(
        head.neutral(first) + head.neutral(second) - head.mean, head.neutral(first + second), atol=1e-12
    )
    assert first.shape == (len(IDENTITY_MODES),) and np.abs(first).max() <= 1.7
    neutrals = [head.neutral(identity_weights(27, k)) for k in range(6)]
    for i in range(6):
        for j in range(i):
            assert 1000 * np.linalg.norm(neutrals[i] - neutrals[j], axis=1).mean() > 1.0
    for mode in head.modes:  # eyeballs stay round
        for side in (-1, 1):
            moved = mode[(head.kind == EYE) & (head.side == side)]
            assert np.ptp(moved, axis=0).max() < 1e-12


@pytest.mark.parametrize("label", LABELS)
def test_every_label_moves_and_stays_finite(head, landmarks, label):
    face = deform(head, head.mean, weights_of(label))
    assert np.isfinite(face).all()
    moved = np.linalg.norm(landmarks(face) - landmarks(head.mean), axis=1)
    assert moved.max() > 4 and moved.max() < 60


def test_labels_are_distinct(landmarks, head):
    for group in (COMA_LABELS, FLORENCE_LABELS):
        poses = np.stack([landmarks(deform(head, head.mean, weights_of(label))) for label in group])
        mean_distance = np.linalg.norm(poses[:, None] - poses[None], axis=-1).mean(axis=-1)
        closest = mean_distance + 1e3 * np.eye(len(group))
        assert closest.min() > 1.0, (group[closest.argmin() // len(group)], group[closest.argmin() % len(group)])
        assert mean_distance[np.triu_indices(len(group), 1)].mean() > 3.0


def test_unknown_label_lists_the_known():
    with pytest.raises(KeyError, match="mouth_open"):
        weights_of("mouth_wide")


def test_jaw_turns_about_its_hinge(head):
    neutral = head.neutral(identity_weights(27, 2))
    face = deform(head, neutral, unit("jaw_open"))
    hinge = jaw_hinge(neutral, head)
    before, after = neutral - hinge, face - hinge
    np.testing.assert_allclose(np.hypot(*before[:, 1:].T), np.hypot(*after[:, 1:].T), atol=1e-9)
    assert np.abs(before[:, 0] - after[:, 0]).max() < 1e-12
    full = jaw_weights(head) > 0.999
    assert full.sum() > 20
    turn = np.arctan2(before[full, 1], before[full, 2]) - np.arctan2(after[full, 1], after[full, 2])
    np.testing.assert_allclose(np.rad2deg(turn), JAW_DEGREES, atol=0.05)
    skull = (head.q > 40) & (head.kind == SKIN)
    np.testing.assert_array_equal(face[skull], neutral[skull])


def test_mouth_extreme_opens_about_four_centimetres(head, landmarks):
    for subject in range(4):
        neutral = head.neutral(identity_weights(27, subject))
        face = landmarks(deform(head, neutral, weights_of("mouth_extreme")))
        gap = np.linalg.norm(face[45] - face[49])  # 62 and 66 of the 68: inner lips, middle
        assert 32 < gap < 55
        assert np.abs(landmarks(neutral)[45] - landmarks(neutral)[49]).max() < 1e-6  # closed


def lip_gap(head, face):
    """Upper minus lower lip line, metres, at the pairs of duplicated vertices."""
    u, v = surface.mouth_coordinates(head.p, head.q)
    line = np.flatnonzero((head.kind == SKIN) & (np.abs(v) < 1e-6) & (u < 1 - 1e-6))
    upper, lower = line[head.q[line] > surface.MOUTH_Q], line[head.q[line] < surface.MOUTH_Q]
    upper = upper[np.lexsort((head.p[upper], head.side[upper]))]
    lower = lower[np.lexsort((head.p[lower], head.side[lower]))]
    assert len(upper) == len(lower) == 11
    np.testing.assert_allclose(head.p[upper], head.p[lower])
    return face[upper, 1] - face[lower, 1]


@pytest.mark.parametrize("label", LABELS)
def test_lips_do_not_pass_through_each_other(head, label):
    for subject in (0, 3):
        neutral = head.neutral(identity_weights(27, subject))
        assert np.abs(lip_gap(head, neutral)).max() < 1e-9
        for strength in (0.5, 1.15):
            assert lip_gap(head, deform(head, neutral, strength * weights_of(label))).min() > -2e-4


def test_lids_stay_outside_the_eyeball(head):
    neutral = head.neutral(identity_weights(27, 1))
    _, distance, _ = surface.eye_distance(head.p, head.q)
    for label in LABELS + ["closed"]:
        weights = unit("lid_close") if label == "closed" else weights_of(label)
        face = deform(head, neutral, weights)
        for side, center in zip((-1, 1), head.eye_centers(neutral)):
            lid = (
                (head.kind == SKIN) & (head.side == side) & (distance < 7) & (np.hypot(head.p - 31.5, head.q - 24) < 30)
            )
            assert lid.sum() > 25
            radius = 1000 * np.linalg.norm(face[lid] - center, axis=1)
            assert radius.min() > surface.EYE_RADIUS - 0.05, label


def test_closed_lids_meet(head):
    face = deform(head, head.mean, unit("lid_close"))
    rho, _, height = surface.eye_distance(head.p, head.q)
    margin = (head.kind == SKIN) & (head.side == 1) & (np.abs(rho - 1) < 1e-6)
    upper, lower = margin & (height > 0.3), margin & (height < -0.3)
    open_gap = head.mean[upper, 1].mean() - head.mean[lower, 1].mean()
    closed_gap = face[upper, 1].mean() - face[lower, 1].mean()
    assert open_gap > 0.006 and -0.0002 < closed_gap < 0.0012


def test_static_landmarks_lie_where_they_belong(head, landmarks):
    face, weight = static_embedding(head)
    assert face.shape == (51,) and weight.shape == (51, 3)
    assert (face >= 0).all() and (face < len(head.faces)).all()
    assert (weight >= 0).all() and np.allclose(weight.sum(axis=1), 1)
    points = landmarks(head.mean)
    swap = [*range(9, -1, -1), 10, 11, 12, 13, 18, 17, 16, 15, 14, 28, 27, 26, 25, 30, 29, 22, 21, 20, 19, 24, 23]
    swap += [37, 36, 35, 34, 33, 32, 31, 42, 41, 40, 39, 38, 47, 46, 45, 44, 43, 50, 49, 48]
    np.testing.assert_allclose(points[swap], points * [-1, 1, 1], atol=1e-9)
    assert points[0, 0] < -40 and points[9, 0] > 40  # the subject's right brow first, at negative x
    assert (np.diff(points[:10, 0]) > 0).all() and (np.diff(points[31:38, 0]) > 0).all()
    assert points[13, 2] == points[:, 2].max()  # tip of the nose
    assert points[19, 0] < points[22, 0] < 0 < points[25, 0] < points[28, 0]  # corners of the eyes
    assert points[20, 1] > points[24, 1] and points[34, 1] > points[40, 1]  # upper above lower lid and lip
    assert np.abs(points[[31, 37], 1] - points[[43, 47], 1]).max() < 1.5  # inner corners beside the outer ones


def test_contour_follows_the_silhouette_of_the_side_that_turns_away(head):
    face, weight = dynamic_embedding(head)
    assert face.shape == (79, 17) and weight.shape == (79, 17, 3)
    assert np.allclose(weight.sum(axis=-1), 1) and (weight >= 0).all()
    points = 1000 * np.einsum("rlk,rlkd->rld", weight, head.mean[head.faces[face]])
    front = points[0]
    np.testing.assert_allclose(front[::-1], front * [-1, 1, 1], atol=1e-9)
    assert front[0, 0] < -60 and front[8, 1] < -80 and (np.diff(front[:9, 1]) < 0).all()
    for row in (20, 35):
        mirrored = points[list(YAW_DEGREES).index(-YAW_DEGREES[row])]
        np.testing.assert_allclose(mirrored[::-1] * [-1, 1, 1], points[row], atol=1e-9)
        np.testing.assert_array_equal(points[row, :8], front[:8])  # near side: stays on the jaw line
        yaw = np.deg2rad(YAW_DEGREES[row])
        across = head.mean[:, 0] * np.cos(yaw) + head.mean[:, 2] * np.sin(yaw)
        for k in range(11, 17):  # far side: nothing of the face at this height sticks out further
            here = points[row, k]
            level = (np.abs(1000 * head.mean[:, 1] - here[1]) < 5) & (head.p > 26) & (head.kind == SKIN)
            level &= 1000 * head.mean[:, 2] > front[k, 2]  # in front of the jaw line
            reach = 1000 * across[level].max()
            assert here[0] * np.cos(yaw) + here[2] * np.sin(yaw) > reach - 2.0


def test_sequences_start_neutral_and_come_back(head):
    lengths = [coma_length(27, subject, label) for subject in range(6) for label in COMA_LABELS]
    assert min(lengths) >= 24 and max(lengths) <= 60 and sum(n < 41 for n in lengths) > 10
    assert 38 < np.mean(lengths) < 44 and len(set(lengths)) > 15
    neutral = head.neutral(identity_weights(27, 4))
    for label in ("high-smile", "mouth-extreme"):
        vertices = demo_sequence(head, 27, 4, label, 40)
        np.testing.assert_array_equal(vertices[0], neutral)
        motion = 1000 * np.linalg.norm(vertices - neutral, axis=2).max(axis=1)
        assert 8 < motion.argmax() < 32 and motion.max() > 6 and motion[-1] < 0.2 * motion.max()
        assert np.linalg.norm(np.diff(vertices, axis=0), axis=2).max() < 0.012  # no jumps


def test_people_differ_in_pace_strength_and_sides():
    weights = [sequence_weights(27, subject, "high_smile", 41) for subject in range(6)]
    smile = ACTION_UNITS.index("smile")
    apex = [w[:, :, smile].mean(axis=1).argmax() for w in weights]
    peak = np.array([w[:, :, smile].max() for w in weights])
    assert len(set(apex)) > 3 and np.ptp(peak) > 0.1
    assert any(abs(w[:, 0, smile].max() - w[:, 1, smile].max()) > 0.02 for w in weights)


def test_colors_fit_the_head(head):
    colors = vertex_colors(head)
    assert colors.shape == head.mean.shape and colors.min() >= 0 and colors.max() <= 1
    assert colors[head.kind == TEETH].min() > 0.5


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "demo"
    summary = write_demo(
        root,
        subjects=3,
        coma_labels=["mouth_open", "high-smile"],
        florence_labels=["Happy"],
        florence_subjects=["Demo03"],
    )
    return root, summary


def digest(root):
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            total.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def test_layout_and_formats(small_demo, head):
    root, summary = small_demo
    assert not summary.already_there
    subject, label = "Demo02", "mouth_open"
    folder = root / "Dataset_FLAME_Aligned_COMA" / subject / label
    frames = sorted(folder.iterdir())
    assert len(frames) == coma_length(27, 1, label)
    assert frames[0].name == "mouth_open.000001.ply" and frames[0].stat().st_size <= 32768
    assert sorted(p.name for p in (root / "Dataset_FLAME_Aligned_COMA" / subject).iterdir()) == [
        "high_smile",
        "mouth_open",
    ]
    vertices, faces = read_ply(frames[0])
    neutral, _ = read_ply(root / "actors" / f"{subject}.ply")
    np.testing.assert_array_equal(vertices, neutral)
    np.testing.assert_array_equal(faces, head.faces)
    np.testing.assert_allclose(vertices, head.neutral(identity_weights(27, 1)), atol=1e-7)
    florence = sorted((root / "Dataset_FLAME_Aligned" / "Demo03" / "Happy").iterdir())
    assert [p.name for p in florence[:2]] == ["Happy_00.obj", "Happy_01.obj"] and len(florence) == 61
    vertices, faces = read_obj(florence[0])
    np.testing.assert_allclose(vertices, head.neutral(identity_weights(27, 2)), atol=6e-7)
    np.testing.assert_array_equal(faces, head.faces)


def test_flame_files_are_what_flame_readers_expect(small_demo, head):
    flame = small_demo[0] / "models" / "flame"
    vertices, faces = read_obj(flame / "template.obj")
    np.testing.assert_allclose(vertices, head.mean, atol=1e-8)
    np.testing.assert_array_equal(faces, head.faces)
    static = pickle.loads((flame / "flame_static_embedding.pkl").read_bytes(), encoding="latin1")
    assert set(static) == {"lmk_face_idx", "lmk_b_coords"}
    assert static["lmk_face_idx"].shape == (51,) and static["lmk_b_coords"].shape == (51, 3)
    dynamic = np.load(flame / "flame_dynamic_embedding.npy", allow_pickle=True, encoding="latin1")
    assert dynamic.shape == () and dynamic.dtype == object
    assert np.asarray(dynamic[()]["lmk_face_idx"]).shape == (79, 17)
    assert np.asarray(dynamic[()]["lmk_b_coords"]).shape == (79, 17, 3)


def test_same_seed_same_bytes_other_seed_other_people(small_demo, tmp_path):
    options = {
        "subjects": 3,
        "coma_labels": ["mouth_open", "high-smile"],
        "florence_labels": ["Happy"],
        "florence_subjects": ["Demo03"],
    }
    write_demo(tmp_path / "demo", **options)
    assert digest(tmp_path / "demo") == digest(small_demo[0])
    options.update(florence_labels=[], coma_labels=["mouth_open"])
    write_demo(tmp_path / "other", seed=28, **options)
    one, _ = read_ply(tmp_path / "other" / "actors" / "Demo01.ply")
    two, _ = read_ply(small_demo[0] / "actors" / "Demo01.ply")
    assert np.abs(one - two).max() > 1e-3


def test_same_bytes_in_another_process(small_demo, tmp_path):
    command = [
        sys.executable,
        "-m",
        "face4d",
        "demo",
        "--output",
        str(tmp_path / "demo"),
        "--subjects",
        "3",
        "--labels",
        "mouth_open",
        "high_smile",
    ]
    command += ["--florence-labels", "Happy", "--florence-subjects", "Demo03", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == f"wrote {tmp_path / 'demo'}", done.stderr
    assert digest(tmp_path / "demo") == digest(small_demo[0])
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.startswith("already there")
    refused = subprocess.run([*command, "--seed", "3"], capture_output=True, text=True)
    assert refused.returncode == 2 and "--overwrite" in refused.stderr and "Traceback" not in refused.stderr
    assert digest(tmp_path / "demo") == digest(small_demo[0])


def test_overwriting_replaces_the_demo_and_nothing_else(tmp_path):
    root = tmp_path / "demo"
    write_demo(root, subjects=2, coma_labels=["mouth_open"], florence_labels=[])
    (root / "runs").mkdir()
    (root / "runs" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="overwrite"):
        write_demo(root, subjects=1, coma_labels=["eyebrow"], florence_labels=[])
    write_demo(root, subjects=1, coma_labels=["eyebrow"], florence_labels=[], overwrite=True)
    assert (root / "runs" / "mine.txt").read_text() == "keep"
    assert [p.name for p in (root / "Dataset_FLAME_Aligned_COMA").iterdir()] == ["Demo01"]
    assert [p.name for p in (root / "Dataset_FLAME_Aligned_COMA" / "Demo01").iterdir()] == ["eyebrow"]
    assert not (root / "actors" / "Demo02.ply").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]


def test_a_half_written_demo_is_not_taken_for_a_complete_one(tmp_path, monkeypatch):
    root = tmp_path / "demo"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("face4d.demo.write.ply_bytes", stop)  # while the first sequence is written
        write_demo(root, subjects=1, coma_labels=["eyebrow"], florence_labels=[])
    assert not root.exists() and not list(tmp_path.iterdir())
    write_demo(root, subjects=1, coma_labels=["eyebrow"], florence_labels=[])
    (root / "demo.json").unlink()
    with pytest.raises(InputError):
        write_demo(root, subjects=1, coma_labels=["eyebrow"], florence_labels=[])
    (root / "demo.json").write_text("{}")
    with pytest.raises(InputError, match="demo.json"):
        write_demo(root, subjects=1, coma_labels=["eyebrow"], florence_labels=[])


def test_a_demo_of_another_version_of_the_head_is_not_reused(tmp_path):
    root = tmp_path / "demo"
    options = {"subjects": 1, "coma_labels": ["eyebrow"], "florence_labels": []}
    write_demo(root, **options)
    assert write_demo(root, **options).already_there
    marker = json.loads((root / "demo.json").read_text())
    (root / "demo.json").write_text(json.dumps({**marker, "geometry": "0" * 16}))
    with pytest.raises(InputError, match="overwrite"):
        write_demo(root, **options)


def test_unknown_labels_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="mouth-open"):
        write_demo(tmp_path / "demo", coma_labels=["mouth_wide"])
    assert not list(tmp_path.iterdir())


def test_marker_tells_the_options(small_demo):
    content = json.loads((small_demo[0] / "demo.json").read_text())
    assert content["seed"] == 27 and content["subjects"] == 3 and content["coma_labels"] == ["mouth_open", "high_smile"]
    assert demo_subjects(2) == ("Demo01", "Demo02")
