"""What must not pass in silence, at every door: a head in another unit, order or hand, a sequence that stands still or
jumps."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from face4d.commands import landmarks as landmarks_command
from face4d.constants import NUM_LANDMARKS
from face4d.correspondence import fit_embedding, save_correspondence
from face4d.datasets.extraction import plan_landmarks, write_landmarks
from face4d.datasets.landmark_set import load_folder, load_split, read_landmarks
from face4d.datasets.mesh_set import load_actors, neutral_landmarks, read_points
from face4d.datasets.sampling import Resampling, sample_tree
from face4d.demo.head import demo_head
from face4d.demo.write import demo_sequence
from face4d.dense.frames import load_frames
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, extract, read_head, save_embedding
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import write_ply
from face4d.runtime.incremental import WriteOptions
from face4d.view.export import load_dense_face
from tests.test_correspondence import embedding_of

T = 7


@dataclass(frozen=True)
class Heads:
    """A head's topology and motion, (T, V, 3) metres; what the doors need beside."""

    embedding: LandmarkEmbedding
    motion: np.ndarray
    own: Path
    target: Path

    @property
    def faces(self) -> np.ndarray:
        return self.embedding.faces


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> Heads:
    folder, head = tmp_path_factory.mktemp("heads"), demo_head(0)
    embedding = embedding_of(head)
    motion = demo_sequence(head, 27, 0, "mouth-open", T)
    save_embedding(folder / "own.npz", embedding)
    save_correspondence(folder / "target.npz", fit_embedding(embedding, motion[0], motion[0], head.faces))
    return Heads(embedding, motion.astype(np.float32), folder / "own.npz", folder / "target.npz")


# What may be wrong with a sequence of meshes: (T, V, 3) and (F, 3) to the same, and what has to be said of it.


def reordered(motion, faces):
    """The same heads with their vertices in another order, which the triangles follow."""
    order = np.random.default_rng(3).permutation(motion.shape[1])
    return motion[:, order], np.argsort(order)[faces].astype(np.int32)


def spaghetti(motion, faces):
    """Vertices in another order and triangles that do not follow."""
    return reordered(motion, faces)[0], faces


def with_jump(motion, faces):
    """One frame in millimetres."""
    moved = motion.copy()
    moved[4] *= 1000
    return moved, faces


def aside(motion, faces):
    """One frame 8 cm off."""
    moved = motion.copy()
    moved[4] += [0.08, 0, 0]
    return moved, faces


REFUSED = {
    "mm": (lambda motion, faces: (1e3 * motion, faces), r"millimetres \(times 0.001"),
    "cm": (lambda motion, faces: (1e2 * motion, faces), r"centimetres \(times 0.01"),
    "inches": (lambda motion, faces: (motion / 0.0254, faces), r"inches \(times 0.0254"),
    "micrometres": (lambda motion, faces: (1e6 * motion, faces), "micrometres"),
    "zero": (lambda motion, faces: (0 * motion, faces), "all points in one place|triangles nan times"),
    "mirrored": (lambda motion, faces: (motion * [-1, 1, 1], faces), "mirrored left to right"),
    "mirrored, faces turned": (
        lambda motion, faces: (motion * [-1, 1, 1], faces[:, ::-1]),
        "flipped|mirrored left to right",
    ),
    "reordered": (reordered, "other triangles|vertices in another order"),
    "reordered, no triangles": (
        lambda motion, faces: (reordered(motion, faces)[0], faces[:0]),
        "vertices in the order of",
    ),
    "spaghetti": (spaghetti, "vertices in the order of"),
    "triangles flipped": (lambda motion, faces: (motion, faces[:, ::-1]), "its triangles flipped"),
    "a triangle less": (lambda motion, faces: (motion, faces[:-1]), r"1641 triangles, 1641 in common"),
}
OF_POINTS = ("mm", "cm", "inches", "micrometres", "zero", "mirrored")  # what can be seen without triangles
OF_SCANS = ("mm", "cm", "inches", "micrometres", "zero")  # and without landmarks
EQUAL = {
    "rows reversed": lambda motion, faces: (motion, faces[::-1]),
    "corners rotated": lambda motion, faces: (motion, faces[:, [2, 0, 1]]),
    "rows shuffled": lambda motion, faces: (motion, np.random.default_rng(1).permutation(faces)),
}
MOVING = {"a frame in mm": (with_jump, "times as large|frame 4 .*millimetres"), "a frame aside": (aside, "mm off")}


def frames(folder: Path, motion, faces, write=write_ply) -> Path:
    for k, vertices in enumerate(motion):
        write(folder / f"{folder.name}.{k:06d}{'.ply' if write is write_ply else '.obj'}", vertices, faces)
    return folder


def tree(place: Path, heads: Heads, damage, write=write_ply) -> Path:
    """Two subjects, of whom the second is damaged."""
    for subject, (motion, faces) in (("A", (heads.motion, heads.faces)), ("B", damage(heads.motion, heads.faces))):
        folder = place / "meshes" / subject / "open"
        folder.mkdir(parents=True)
        frames(folder, motion, faces, write)
    return place / "meshes"


def landmark_files(place: Path, heads: Heads, damage) -> Path:
    (place / "landmarks").mkdir()
    for subject, motion in (("A", heads.motion), ("B", damage(heads.motion, heads.faces)[0])):
        np.save(place / "landmarks" / f"open_{subject}.npy", extract(heads.embedding, motion))
    return place / "landmarks"


def one(place: Path, heads: Heads, damage, name="B.ply") -> Path:
    motion, faces = damage(heads.motion, heads.faces)
    (write_obj if name.endswith("obj") else write_ply)(place / name, motion[0], faces)
    return place / name


def actor(place, heads, damage):
    neutral_landmarks(one(place, heads, damage), heads.embedding)


def actor_obj(place, heads, damage):
    neutral_landmarks(one(place, heads, damage, "B.obj"), heads.embedding)


def dense_actor(place, heads, damage):
    load_dense_face(None, heads.embedding, one(place, heads, damage))


def target(place, heads, damage):
    load_dense_face(None, heads.embedding, None, target=one(place, heads, damage), target_embedding=heads.target)


def registered_copy(place, heads, damage):
    write_ply(place / "head.ply", heads.motion[0], heads.faces)
    copy, output = one(place, heads, damage), place / "x.npz"
    paths = [
        "--registered",
        copy,
        "--target",
        place / "head.ply",
        "--output",
        output,
        "--landmark-embedding",
        heads.own,
    ]
    landmarks_command.main([*map(str, paths)])


def actors(place, heads, damage):
    (place / "actors").mkdir()
    write_ply(place / "actors" / "A.ply", heads.motion[0], heads.faces)
    one(place / "actors", heads, damage)
    load_actors(place / "actors", heads.embedding)


def step_3(place, heads, damage, frames=None):
    train, test = plan_landmarks(tree(place, heads, damage), place / "out", test_subjects=["A"])
    write_landmarks(test + train, heads.embedding, Resampling(frames), WriteOptions(quiet=True))


def steps_2_and_3(place, heads, damage):
    step_3(place, heads, damage, frames=5)


def step_2(place, heads, damage):
    sample_tree(tree(place, heads, damage), place / "out", Resampling(T), WriteOptions(quiet=True))


def dense_training(place, heads, damage):
    load_frames(tree(place, heads, damage), heads.embedding)


def dense_training_obj(place, heads, damage):
    load_frames(tree(place, heads, damage, write_obj), heads.embedding)


def dense_actors(place, heads, damage):
    (place / "actors").mkdir()
    write_ply(place / "actors" / "A.ply", heads.motion[0], heads.faces)
    one(place / "actors", heads, damage)
    load_frames(tree(place, heads, lambda *mesh: mesh), heads.embedding, actors=place / "actors")


def decoded_actor(place, heads, damage):
    read_head(one(place, heads, damage), heads.embedding)  # Sparse2Dense/test.py --actor and --real


def flame_fit(place, heads, damage):
    from face4d.flame.fit import fit_flame

    fit = SimpleNamespace(joint_template=None, num_vertices=heads.motion.shape[1])
    with contextlib.suppress(AttributeError):  # it went on to fit
        fit_flame(fit, damage(heads.motion, heads.faces)[0], name=place / "B.ply")


def landmark_folder(place, heads, damage):
    load_split(landmark_files(place, heads, damage), test_subjects=["A"])


def generated_folder(place, heads, damage):
    load_folder(landmark_files(place, heads, damage))


def landmark_file(place, heads, damage):
    read_landmarks(landmark_files(place, heads, damage) / "open_B.npy")


def actor_points(place, heads, damage):
    np.save(place / "B.npy", extract(heads.embedding, damage(heads.motion, heads.faces)[0][0]))
    read_points(place / "B.npy")


MESH_DOORS = (
    actor, actor_obj, dense_actor, target, registered_copy, actors, step_3, steps_2_and_3, dense_training,
    dense_training_obj, dense_actors, decoded_actor,
)  # fmt: skip
POINT_DOORS = (landmark_folder, generated_folder, landmark_file, actor_points)
OBJ_DOORS = (actor_obj, dense_training_obj)  # an OBJ without faces is none: its reader says so
DOORS = [
    (door, damage) for door in MESH_DOORS for damage in REFUSED if door not in OBJ_DOORS or "no triangles" not in damage
]
DOORS += [(door, damage) for door in POINT_DOORS for damage in OF_POINTS]
DOORS += [(step_2, damage) for damage in (*OF_SCANS, "reordered", "triangles flipped", "a triangle less")]
DOORS += [(flame_fit, damage) for damage in OF_SCANS]


@pytest.mark.parametrize(("door", "damage"), DOORS, ids=[f"{door.__name__}-{damage}" for door, damage in DOORS])
def test_what_cannot_be_right_is_refused_and_named(tmp_path, heads, door, damage):
    make, words = REFUSED[damage]
    with pytest.raises(InputError, match=words) as refused:
        door(tmp_path, heads, make)
    assert "B" in Path(refused.value.path).relative_to(tmp_path).as_posix()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", EQUAL)
@pytest.mark.parametrize("door", [*MESH_DOORS, step_2], ids=lambda door: door.__name__)
def test_the_order_of_the_triangles_is_no_fault(tmp_path, heads, door, kind, caplog):
    door(tmp_path, heads, EQUAL[kind])
    assert not caplog.records


def test_landmarks_do_not_depend_on_the_order_of_triangles(tmp_path, heads):
    expected = extract(heads.embedding, heads.motion[0])
    for kind in EQUAL.values():
        np.testing.assert_array_equal(neutral_landmarks(one(tmp_path, heads, kind), heads.embedding), expected)


@pytest.mark.parametrize(
    "door", [step_2, step_3, steps_2_and_3, dense_training, dense_training_obj], ids=lambda door: door.__name__
)
@pytest.mark.parametrize("kind", MOVING)
def test_a_frame_that_jumps_is_named(tmp_path, heads, door, kind):
    make, words = MOVING[kind]
    with pytest.raises(InputError, match=words) as refused:
        door(tmp_path, heads, make)
    assert refused.value.path.endswith(("B/open/open.000004.ply", "B/open/open.000004.obj"))


@pytest.mark.parametrize("door", [step_2, step_3, steps_2_and_3, dense_training], ids=lambda door: door.__name__)
def test_a_reordered_frame_in_the_middle_is_a_jump(tmp_path, heads, door):
    def damage(motion, faces):
        moved = motion.copy()
        moved[3] = reordered(motion, faces)[0][3]
        return moved, faces

    with pytest.raises(InputError, match="open.000003.ply: expected points near those of open.000002.ply"):
        door(tmp_path, heads, damage)


def test_a_last_frame_of_other_triangles_is_named_by_step_2(tmp_path, heads):
    folder = frames(tmp_path / "raw" / "B" / "open", heads.motion, heads.faces)
    write_ply(folder / "open.000006.ply", heads.motion[6], heads.faces[:-2])
    with pytest.raises(
        InputError, match="open.000006.ply: expected the topology of open.000000.ply .* found 1640 triangles"
    ):
        sample_tree(tmp_path / "raw", tmp_path / "out", Resampling(5), WriteOptions(quiet=True))


STILL = lambda motion, faces: (np.repeat(motion[:1], len(motion), axis=0), faces)  # noqa: E731
ONE_FRAME = lambda motion, faces: (motion[:1], faces)  # noqa: E731


@pytest.mark.parametrize(
    "door", [step_2, step_3, steps_2_and_3, dense_training, landmark_folder], ids=lambda door: door.__name__
)
def test_a_sequence_that_stands_still_is_named(tmp_path, heads, door, caplog):
    if door is landmark_folder:  # its only training sequence
        with pytest.raises(InputError, match="expected training sequences that move, found 1 in which nothing does"):
            door(tmp_path, heads, STILL)
    else:
        door(tmp_path, heads, STILL)
    (note,) = [record.getMessage() for record in caplog.records]
    assert "nothing moves" in note and ("B/open (7 frames)" in note or "open_B" in note)


@pytest.mark.parametrize("door", [step_2, steps_2_and_3, dense_training], ids=lambda door: door.__name__)
def test_a_sequence_of_one_frame_is_named(tmp_path, heads, door, caplog):
    door(tmp_path, heads, ONE_FRAME)
    assert "nothing moves: " in caplog.text and "(1 frame)" in caplog.text


def test_dense_training_needs_something_that_moves(tmp_path, heads):
    frames(tmp_path / "A" / "open", *STILL(heads.motion, heads.faces))
    with pytest.raises(InputError, match="expected sequences that move, found 1 in which nothing does"):
        load_frames(tmp_path, heads.embedding)


def test_a_jump_in_a_landmark_file_is_a_note_since_generated_ones_may(tmp_path, heads, caplog):
    load_folder(landmark_files(tmp_path, heads, aside))
    assert "jumps: open_B.npy (at frame 4 by 8" in caplog.text
    np.save(tmp_path / "landmarks" / "open_B.npy", extract(heads.embedding, with_jump(heads.motion, heads.faces)[0]))
    with pytest.raises(InputError, match="open_B.npy: .* found frame 4 .*millimetres"):
        load_folder(tmp_path / "landmarks")


@pytest.mark.parametrize(
    "door",
    [*(door for door in MESH_DOORS if door is not registered_copy), *POINT_DOORS],
    ids=lambda door: door.__name__,
)
def test_a_lying_head_is_a_note(tmp_path, heads, door, caplog):
    door(tmp_path, heads, lambda motion, faces: (motion[..., [0, 2, 1]] * np.float32([1, -1, 1]), faces))
    if door is not landmark_file:  # whose reader leaves notes to who asked for it
        assert "stand upright" in caplog.text


@pytest.mark.parametrize("door", [door for door in MESH_DOORS if door not in OBJ_DOORS], ids=lambda door: door.__name__)
def test_a_cloud_of_points_says_what_was_not_compared(tmp_path, heads, door, caplog):
    door(tmp_path, heads, lambda motion, faces: (motion, faces[:0]))
    assert "no triangles" in caplog.text


@pytest.mark.parametrize("huge", [1e200, -1e39])
def test_numbers_beyond_single_precision(tmp_path, heads, huge):
    landmarks = extract(heads.embedding, heads.motion).astype(np.float64)
    landmarks[3, 5, 1] = huge
    np.save(tmp_path / "open_B.npy", landmarks)
    with pytest.raises(InputError, match=r"open_B.npy: expected finite coordinates .*\[3, 5, 1\]"):
        read_landmarks(tmp_path / "open_B.npy")
    np.save(tmp_path / "B.npy", landmarks[3])
    with pytest.raises(InputError, match="B.npy: expected finite coordinates"):
        read_points(tmp_path / "B.npy")
    vertices = heads.motion[0].astype(np.float64)
    vertices[7, 0] = huge
    write_obj(tmp_path / "B.obj", vertices, heads.faces)
    with pytest.raises(InputError, match="B.obj.*finite"):
        neutral_landmarks(tmp_path / "B.obj", heads.embedding)


def test_own_landmark_sets_still_work(tmp_path, heads, caplog):
    """68 points of one's own choice are let in everywhere, with a note that they are no face in the usual order."""
    rng = np.random.default_rng(4)
    order = rng.permutation(NUM_LANDMARKS)
    own = LandmarkEmbedding(
        heads.embedding.face_idx[order], heads.embedding.bary[order], heads.faces, heads.embedding.num_vertices
    )
    other = Heads(own, heads.motion, heads.own, heads.target)
    for number, door in enumerate((actor, step_3, dense_training, landmark_folder, actor_points)):
        (tmp_path / str(number)).mkdir()
        caplog.clear()
        door(tmp_path / str(number), other, lambda *mesh: mesh)
        assert "no face in the order" in caplog.text


def test_actors_far_from_their_sequences_are_named(tmp_path, heads, caplog):
    (tmp_path / "actors").mkdir()
    for subject in "AB":
        write_ply(tmp_path / "actors" / f"{subject}.ply", heads.motion[0] + np.float32([0.5, 0, 0]), heads.faces)
    neutrals = load_actors(tmp_path / "actors", heads.embedding)
    load_folder(landmark_files(tmp_path, heads, lambda *mesh: mesh), neutrals=neutrals)
    load_frames(tree(tmp_path, heads, lambda *mesh: mesh), heads.embedding, actors=tmp_path / "actors")
    assert caplog.text.count("far from the neutral face of its actor: ") == 2 and "(500 mm)" in caplog.text
