"""The GLB read back and evaluated as a viewer does, against the meshes that went in."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from face4d.view.glb import animated_glb, morph_targets
from face4d.view.looks import painted_colours

pygltflib = pytest.importorskip("pygltflib")


@pytest.fixture(scope="module")
def moving():
    """(30, V, 3) and faces of the demo head opening its mouth."""
    from face4d.demo.head import demo_head
    from face4d.demo.write import demo_sequence

    head = demo_head(0)
    return demo_sequence(head, 27, 1, "mouth-extreme", 30), head.faces


def write_glb(path, motions, faces, colors=None, **how):
    """Write a head, in clay where no colours are given; what its mesh says of itself."""
    if colors is None:
        colors = painted_colours(np.concatenate([*motions.values()]), faces)
    path.write_bytes(animated_glb(motions, faces, colors=colors, **how))
    return pygltflib.GLTF2().load(str(path)).meshes[0].extras


class Viewer:
    """Reads a GLB by its own tables and evaluates an animation at a time, as the specification says."""

    def __init__(self, path, animation=0):
        self.file = pygltflib.GLTF2().load(str(path))
        self.animation = self.file.animations[animation]
        self.mesh = self.file.meshes[self.file.nodes[self.animation.channels[0].target.node].mesh]
        self.primitive = self.mesh.primitives[0]
        sampler = self.animation.samplers[0]
        assert sampler.interpolation == "LINEAR"
        self.times = self.array(sampler.input)
        self.weights = self.array(sampler.output).reshape(len(self.times), -1)

    def array(self, number):
        accessor = self.file.accessors[number]
        view = self.file.bufferViews[accessor.bufferView]
        assert view.byteOffset % 4 == 0
        width = {"SCALAR": 1, "VEC3": 3}[accessor.type]
        kind = {5123: "<u2", 5125: "<u4", 5126: "<f4"}[accessor.componentType]
        values = np.frombuffer(self.file.binary_blob(), kind, accessor.count * width, view.byteOffset).reshape(
            -1, width
        )
        if accessor.min:
            assert values.min(axis=0).tolist() == accessor.min and values.max(axis=0).tolist() == accessor.max
        return values if width > 1 else values.ravel()

    def at(self, seconds, name="POSITION"):
        weights = np.array([np.interp(seconds, self.times, column) for column in self.weights.T], np.float32)
        base = self.array(getattr(self.primitive.attributes, name))
        return base + sum(weight * self.array(target[name]) for weight, target in zip(weights, self.primitive.targets))


def test_every_frame_is_within_the_stated_error(moving, tmp_path):
    vertices, faces = moving
    said = write_glb(tmp_path / "a.glb", {"mouth-extreme": vertices}, faces, fps=30)
    viewer = Viewer(tmp_path / "a.glb")
    np.testing.assert_array_equal(viewer.array(viewer.primitive.indices).reshape(-1, 3), faces)
    np.testing.assert_allclose(viewer.times, np.arange(30) / 30, rtol=1e-6)
    bounded = [viewer.primitive.attributes.POSITION, viewer.file.animations[0].samplers[0].input]
    assert all(
        viewer.file.accessors[number].min
        for number in (*bounded, *(target["POSITION"] for target in viewer.primitive.targets))
    )
    errors = [
        1e3 * np.linalg.norm(viewer.at(time) - frame, axis=1).max() for time, frame in zip(viewer.times, vertices)
    ]
    assert max(errors) == pytest.approx(said["max_error_mm"], abs=2e-4) and said["max_error_mm"] < 0.05
    assert viewer.animation.name == "mouth-extreme" and viewer.animation.extras == {
        "frames": 30,
        "max_error_mm": said["max_error_mm"],
    }
    assert said["targetNames"][:3] == ["mouth-extreme", "detail 1", "detail 2"]
    assert said["components"] == len(said["targetNames"]) == viewer.weights.shape[1] and said["frames"] == 30
    assert 1 < said["components"] < 15
    halfway = viewer.at((viewer.times[9] + viewer.times[10]) / 2)
    np.testing.assert_allclose(halfway, (vertices[9] + vertices[10]) / 2, atol=6e-5)


def test_a_dark_layer_inside_moves_along(moving, tmp_path):
    vertices, faces = moving
    write_glb(tmp_path / "a.glb", {"mouth-extreme": vertices}, faces)
    viewer = Viewer(tmp_path / "a.glb")
    assert [channel.target.node for channel in viewer.file.animations[0].channels] == [0, 1]
    skin, inside = (mesh.primitives[0] for mesh in viewer.file.meshes)
    assert inside.targets == skin.targets
    np.testing.assert_array_equal(viewer.array(inside.indices).reshape(-1, 3), faces[:, ::-1])
    moved_in = viewer.array(skin.attributes.POSITION) - viewer.array(inside.attributes.POSITION)
    np.testing.assert_allclose(moved_in, 5e-4 * viewer.array(skin.attributes.NORMAL), atol=1e-7)
    assert max(viewer.file.materials[inside.material].pbrMetallicRoughness.baseColorFactor[:3]) < 0.1


def test_normals_follow_the_motion(moving, tmp_path):
    from face4d.mesh.geometry import vertex_normals

    vertices, faces = moving
    write_glb(tmp_path / "a.glb", {"mouth-extreme": vertices}, faces)
    viewer, apex = Viewer(tmp_path / "a.glb"), int(np.linalg.norm(vertices - vertices[0], axis=2).sum(axis=1).argmax())
    shown, true = viewer.at(viewer.times[apex], "NORMAL"), vertex_normals(vertices[apex], faces)
    shown /= np.linalg.norm(shown, axis=1, keepdims=True)
    base = vertex_normals(vertices[0], faces)
    degrees = lambda a, b: np.rad2deg(np.arccos(np.clip((a * b).sum(axis=1), -1, 1)))  # noqa: E731
    assert np.sqrt(np.mean(degrees(shown, true) ** 2)) < 0.2 * np.sqrt(np.mean(degrees(base, true) ** 2))


def test_fewest_components_and_exact_rank():
    draw = np.random.default_rng(0)
    displacement = np.einsum("tk,kvc->tvc", draw.normal(size=(20, 3)), draw.normal(size=(3, 50, 3))) * 1e-2
    found = morph_targets([displacement])
    assert found.targets.shape == (3, 50, 3) and found.max_error_mm[0] < 1e-4
    np.testing.assert_allclose(np.abs(found.weights[0]).max(axis=0), 1)
    assert (found.weights[0].max(axis=0) == 1).all()
    assert len(morph_targets([displacement], 1e3).targets) == 1
    noisy = displacement + draw.normal(size=displacement.shape) * 1e-4
    loose, tight = morph_targets([noisy], 0.2), morph_targets([noisy], 0.02)
    assert loose.max_error_mm[0] < 0.2 and tight.max_error_mm[0] < 0.02
    assert len(loose.targets) < len(tight.targets) <= 21
    targets, weights = loose.targets[:-1].reshape(len(loose.targets) - 1, -1), loose.weights[0][:, :-1]
    left = noisy.reshape(20, -1) - weights @ targets
    assert 1e3 * np.linalg.norm(left.reshape(20, 50, 3), axis=2).max() >= 0.2  # one component less is not enough


def test_the_first_target_of_every_motion_is_its_apex():
    draw = np.random.default_rng(3)
    motions = [draw.normal(0, 1e-3, (frames, 40, 3)) for frames in (5, 9)]
    for motion, apex in zip(motions, (2, 6)):
        motion[apex] *= 5
    found = morph_targets(motions, 0.01)
    for number, (motion, apex) in enumerate(zip(motions, (2, 6))):
        np.testing.assert_allclose(found.targets[number], motion[apex], atol=1e-9)
        assert found.weights[number][apex, number] == pytest.approx(1)
        assert (found.weights[number][:, 1 - number] == 0).all()  # none of another motion's apex
        made = np.einsum("tk,kvc->tvc", found.weights[number], found.targets)
        error = 1e3 * np.linalg.norm(made - motion, axis=2).max()
        assert error == pytest.approx(found.max_error_mm[number], abs=1e-4) and error < 0.01


def test_one_file_with_an_animation_for_every_label(moving, tmp_path):
    from face4d.demo.head import demo_head
    from face4d.demo.write import demo_sequence

    opened, faces = moving
    pursed = demo_sequence(demo_head(0), 27, 1, "mouth-middle", 20)
    motions = {"open": opened, "pursed": pursed}
    said = write_glb(tmp_path / "a.glb", motions, faces, neutral=opened[0], name="Demo02")
    for number, (label, vertices) in enumerate(motions.items()):
        viewer = Viewer(tmp_path / "a.glb", number)
        assert viewer.animation.name == label and viewer.mesh.name == "Demo02" and len(viewer.times) == len(vertices)
        assert viewer.mesh.extras["targetNames"][:3] == ["open", "pursed", "detail 1"]
        error = max(1e3 * np.linalg.norm(viewer.at(t) - v, axis=1).max() for t, v in zip(viewer.times, vertices))
        assert error == pytest.approx(viewer.animation.extras["max_error_mm"], abs=2e-4) and error < 0.05
        apex = vertices[np.linalg.norm((vertices - opened[0]).reshape(len(vertices), -1), axis=1).argmax()]
        target = viewer.array(viewer.primitive.targets[number]["POSITION"])  # alone: the expression
        np.testing.assert_allclose(opened[0] + target, apex, atol=1e-6)
    assert said["components"] == len(viewer.mesh.extras["targetNames"])


def test_a_face_that_rests_and_a_single_frame(moving, tmp_path):
    vertices, faces = moving
    for frames in (1, 3):
        said = write_glb(tmp_path / "a.glb", {"rest": np.repeat(vertices[:1], frames, axis=0)}, faces)
        assert said["components"] == 1 and said["max_error_mm"] < 1e-4
        assert np.abs(Viewer(tmp_path / "a.glb").at(0) - vertices[0]).max() < 1e-6


def test_sixty_full_frames_stay_below_eight_megabytes(tmp_path):
    draw = np.random.default_rng(1)
    vertices = draw.normal(0, 0.05, (5023, 3)) + draw.normal(0, 1e-3, (60, 5023, 3))  # noise: nothing can be left out
    faces, grey = draw.integers(0, 5023, (9976, 3)), np.full((5023, 3), 0.5)
    said = write_glb(tmp_path / "a.glb", {"noise": vertices}, faces, grey, neutral=vertices[0])
    assert said["components"] >= 59 and (tmp_path / "a.glb").stat().st_size <= 8_000_000
    noise = {"noise": np.concatenate([vertices, vertices[:15, ::-1]])}
    write_glb(tmp_path / "b.glb", noise, faces, grey)
    short, long = (Viewer(tmp_path / name).primitive.targets[0] for name in ("a.glb", "b.glb"))
    assert "NORMAL" in short and "NORMAL" not in long


def test_colors_material_and_neutral(moving, tmp_path):
    vertices, faces = moving
    colors = np.full(vertices.shape[1:], 0.25)
    write_glb(tmp_path / "a.glb", {"open": vertices[10:]}, faces, neutral=vertices[0], colors=colors)
    viewer = Viewer(tmp_path / "a.glb")
    assert (viewer.array(viewer.primitive.attributes.COLOR_0) == 0.25).all()
    assert viewer.file.materials[0].doubleSided
    np.testing.assert_array_equal(viewer.array(viewer.primitive.attributes.POSITION), vertices[0].astype(np.float32))
    assert 1e3 * np.linalg.norm(viewer.at(0) - vertices[10], axis=1).max() < 0.05


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"motions": {"open": np.zeros((4, 3))}}, "open"),
        ({"motions": {"open": np.full((2, 4, 3), np.nan)}}, "finite"),
        ({"motions": {"open": np.zeros((2, 4, 3)), "shut": np.zeros((2, 5, 3))}}, "shut"),
        ({"motions": {}}, "at least one"),
        ({"faces": np.array([[0, 1, 4]])}, "below 4"),
        ({"neutral": np.zeros((5, 3))}, "neutral"),
        ({"colors": np.zeros((4, 4))}, "colors"),
        ({"fps": 0}, "fps"),
    ],
)
def test_wrong_input_is_refused(change, words):
    head = {"motions": {"open": np.zeros((2, 4, 3))}, "faces": np.array([[0, 1, 2]]), "colors": np.zeros((4, 3))}
    with pytest.raises(ValueError, match=words):
        animated_glb(**(head | change))


def test_a_tolerance_of_zero_is_refused():
    with pytest.raises(ValueError, match="tolerance_mm"):
        morph_targets([np.zeros((2, 4, 3))], 0)


def test_the_khronos_validator_finds_nothing(moving, tmp_path):
    """Runs where node and the package gltf-validator are (npm install gltf-validator, NODE_PATH where it is not
    global)."""
    if not shutil.which("node"):
        pytest.skip("needs node")
    script = (
        "const v=require('gltf-validator');v.validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[1])))"
    )
    script += ".then(r=>console.log(JSON.stringify(r.issues)))"
    vertices, faces = moving
    for number, colors in enumerate((None, np.full(vertices.shape[1:], 0.5))):
        path = tmp_path / f"{number}.glb"
        write_glb(path, {"open": vertices, "shut": vertices[::-1]}, faces, colors=colors)
        result = subprocess.run(["node", "-e", script, str(path)], capture_output=True, text=True)
        if "Cannot find module" in result.stderr:
            pytest.skip("needs npm's gltf-validator")
        issues = json.loads(result.stdout)
        assert issues["numErrors"] == issues["numWarnings"] == issues["numInfos"] == 0, issues


def test_the_inside_of_the_mouth_is_dark_and_the_skin_is_not(tmp_path):
    from face4d.demo.head import POCKET, SKIN, demo_head
    from face4d.demo.write import demo_sequence

    head = demo_head(0)
    vertices = demo_sequence(head, 27, 1, "mouth-open", 12)
    write_glb(tmp_path / "a.glb", {"mouth-open": vertices}, head.faces)
    viewer = Viewer(tmp_path / "a.glb")
    assert viewer.file.materials[viewer.primitive.material].pbrMetallicRoughness.baseColorFactor == [1, 1, 1, 1]
    shown = viewer.array(viewer.primitive.attributes.COLOR_0)  # (V, 3) linear
    assert (
        shown[head.kind == POCKET].mean() < 0.12 and shown[(head.kind == POCKET) & (head.inner[:, 2] == 1)].max() < 0.1
    )
    skin = shown[head.kind == SKIN].mean(axis=1)
    assert np.median(skin) > 0.35
    assert shown[landmark_vertices(head)].mean() > 0.2  # lips open and close: no dark rim where they touched


def landmark_vertices(head):
    """Vertices of the faces that the outer lip's landmarks lie on."""
    from face4d.demo.flame import static_embedding

    return np.unique(head.faces[static_embedding(head)[0][31:43]])
