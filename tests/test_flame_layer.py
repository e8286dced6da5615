"""The FLAME layer: published vectors, gradients, batches, contour, and bad input."""

import pickle

import numpy as np
import pytest
import torch

from face4d.errors import InputError
from face4d.flame import skinning
from face4d.flame.layer import FlameLayer, load_flame_layer
from face4d.flame.model import FlameModel
from face4d.flame.skinning import blend_skinning, contour_rows, rodrigues
from face4d.landmarks import LandmarkEmbedding

PARAMETERS = {
    "shape": 4,
    "expression": 3,
    "global_pose": 3,
    "neck_pose": 3,
    "jaw_pose": 3,
    "eye_pose": 6,
    "translation": 3,
}


@pytest.fixture
def fake(reference):
    """The made-up model of 60 vertices and its landmarks."""
    arrays = reference("c10_fake_flame_model")
    model = FlameModel(
        arrays["v_template"], arrays["shapedirs"][:, :, :300], arrays["shapedirs"][:, :, 300:], arrays["posedirs"],
        arrays["J_regressor"], arrays["weights"], arrays["f"].astype(np.int32),
    )  # fmt: skip
    embedding = LandmarkEmbedding(
        np.concatenate([arrays["dyn_face_idx"][0], arrays["lmk_face_idx"]]).astype(np.int64),
        np.concatenate([arrays["dyn_b_coords"][0], arrays["lmk_b_coords"]]), model.faces, 60,
        arrays["dyn_face_idx"].astype(np.int64), arrays["dyn_b_coords"],
    )  # fmt: skip
    return model, embedding


@pytest.fixture
def case(reference):
    """Parameters of the published vectors, and the vectors."""
    arrays = {key: torch.as_tensor(value) for key, value in reference("c10_flame").items()}
    parameters = {
        "shape": arrays["betas"], "expression": arrays["expression"], "global_pose": arrays["global_orient"],
        "neck_pose": arrays["neck"], "jaw_pose": arrays["jaw"],
        "eye_pose": torch.cat([arrays["leye"], arrays["reye"]], dim=1),
    }  # fmt: skip
    return parameters, arrays


def close(found, wanted, tolerance=1e-6):
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


def draws(batch, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.3 * torch.randn(batch, columns, generator=generator, dtype=dtype)
        for name, columns in PARAMETERS.items()
    }


def test_vertices_joints_and_landmarks_of_smplx(fake, case):
    parameters, wanted = case
    out = FlameLayer(*fake, contour="smplx")(**parameters)
    close(out.vertices, wanted["vertices"])
    close(out.joints, wanted["joints_posed"])
    close(out.landmarks[:, :17], wanted["landmarks_contour17"])
    close(out.landmarks[:, 17:], wanted["landmarks_static51"])
    moved = FlameLayer(*fake, contour="smplx")(**parameters, translation=wanted["transl"])
    close(moved.vertices, wanted["vertices_transl"])
    close(moved.joints, wanted["joints_transl"])


def test_vertices_and_landmarks_of_deca(fake, case):
    parameters, wanted = case
    still = {**parameters, "neck_pose": None}
    out = FlameLayer(*fake, contour="deca")(**still)
    close(out.vertices, wanted["deca_vertices_neck0"])
    close(out.landmarks, wanted["deca_landmarks2d_neck0"])
    shared_neck = {**still, "neck_pose": parameters["neck_pose"][:1]}
    out = FlameLayer(*fake, contour="deca")(**shared_neck)
    close(out.vertices, wanted["deca_vertices_necksample0"])
    close(out.landmarks, wanted["deca_landmarks2d_necksample0"])


def about_y(degrees, joint):
    pose = torch.zeros(len(degrees), 5, 3)
    pose[:, joint, 1] = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float32))
    return rodrigues(pose)


@pytest.mark.parametrize("convention", ["deca", "smplx"])
def test_contour_tables_of_published_layers(reference, convention):
    arrays = reference("c10_flame")
    for joint, name in ((0, "contour_index"), (1, "neck_index")):
        rows = contour_rows(about_y(arrays["contour_degrees"], joint), convention)
        np.testing.assert_array_equal(rows, arrays[f"{name}_{convention}"])
    np.testing.assert_array_equal(
        contour_rows(about_y(arrays["big_degrees"], 0), convention), arrays[f"big_{convention}"]
    )
    clear = np.abs(np.abs(arrays["half_degrees"]) % 1 - 0.5) > 0.05  # at half degrees the last bit decides
    rows = contour_rows(about_y(arrays["half_degrees"], 0), convention)
    np.testing.assert_array_equal(rows[clear], arrays[f"half_{convention}"][clear])
    combined = rodrigues(torch.as_tensor(arrays["combined_pose"]).unflatten(1, (5, 3)))
    assert contour_rows(combined, convention).item() == arrays[f"combined_{convention}"]


def test_geometric_contour_rows_follow_the_view_of_the_head():
    degrees = np.array([-170.0, -60, -39, -20, 0, 20, 39, 60, 100, 170])
    expected = [78, 78, 78, 59, 0, 20, 39, 39, 39, 39]  # no folding behind the head
    for joint in (0, 1):
        assert contour_rows(about_y(degrees, joint), "geometry").tolist() == expected
    turned = rodrigues(torch.tensor([[0.0, 0.4, 0.0]]))
    # a nod or a roll of the picture changes nothing
    for tilt in (torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.7]])):
        both = torch.stack([rodrigues(tilt), turned, *[torch.eye(3)[None]] * 3], dim=1)
        assert contour_rows(both, "geometry").item() == round(np.rad2deg(0.4))
    assert contour_rows(about_y(degrees, 0), "geometry", sign=-1).tolist()[3:6] == [20, 0, 59]
    assert contour_rows(about_y(degrees, 0), "fixed").tolist() == [0] * len(degrees)


def test_rotations_and_their_derivatives_at_and_near_zero():
    generator = torch.Generator().manual_seed(1)
    vectors = (
        torch.randn(20, 3, generator=generator, dtype=torch.float64)
        * torch.logspace(-9, 0.5, 20, dtype=torch.float64)[:, None]
    )
    vectors = torch.cat([vectors, torch.zeros(1, 3, dtype=torch.float64)])
    cross = torch.linalg.cross(torch.eye(3, dtype=torch.float64)[None], vectors[:, None], dim=-1)
    close(rodrigues(vectors), torch.linalg.matrix_exp(cross), 1e-14)
    some = vectors[[0, 8, 12, 13, 14, 19, 20]].requires_grad_()
    assert torch.autograd.gradcheck(rodrigues, some)
    assert torch.autograd.gradgradcheck(rodrigues, some)
    face = rodrigues(torch.tensor([0.0, torch.pi / 2, 0.0])) @ torch.tensor([0.0, 0.0, 1.0])
    close(face, torch.tensor([1.0, 0.0, 0.0]))


def test_gradients_of_every_parameter(fake):
    layer = FlameLayer(*fake, num_shape=4, num_expression=3, dtype=torch.float64)
    values = [value.requires_grad_() for value in draws(2).values()]
    assert torch.autograd.gradcheck(lambda *given: tuple(layer(*given)), values, fast_mode=True)
    assert torch.autograd.gradcheck(layer.landmarks, [value[:1].detach().requires_grad_() for value in values])
    zeros = [torch.zeros_like(value[:1]).requires_grad_() for value in values]
    assert torch.autograd.gradcheck(layer.landmarks, zeros)


def test_any_batch_and_one_row_for_all(fake):
    layer = FlameLayer(*fake, num_shape=4, num_expression=3, dtype=torch.float64)
    many = draws(7)
    whole = layer(**many)
    for row in range(7):
        single = layer(**{name: value[row : row + 1] for name, value in many.items()})
        close(single.vertices[0], whole.vertices[row], 1e-14)
        close(single.landmarks[0], whole.landmarks[row], 1e-14)
    for name in PARAMETERS:
        one = {**many, name: many[name][:1]}
        repeated = {**many, name: many[name][:1].expand(7, -1)}
        close(layer(**one).vertices, layer(**repeated).vertices, 1e-14)
        missing = {other: value for other, value in many.items() if other != name}
        close(layer(**missing).vertices, layer(**{**many, name: torch.zeros_like(many[name])}).vertices, 1e-14)
    # its weights sum to 1 in float32
    close(layer().vertices[0], torch.as_tensor(fake[0].template, dtype=torch.float64), 1e-8)
    short = layer(shape=many["shape"][:, :2])
    close(short.vertices, layer(shape=many["shape"] * torch.tensor([1.0, 1, 0, 0])).vertices, 1e-14)


def test_landmarks_alone_are_the_same(fake):
    for contour in ("geometry", "deca", "smplx", "fixed"):
        layer = FlameLayer(*fake, num_shape=4, num_expression=3, contour=contour)
        parameters = draws(5, torch.float32)
        close(layer.landmarks(**parameters), layer(**parameters).landmarks)


def test_precision_and_moving_between_them(fake, case):
    parameters, wanted = case
    layer = FlameLayer(*fake)
    double = FlameLayer(*fake, dtype=torch.float64)(**{name: value.double() for name, value in parameters.items()})
    assert double.vertices.dtype == torch.float64
    close(double.vertices.float(), wanted["vertices"])
    close(
        layer.double()(**{name: value.double() for name, value in parameters.items()}).vertices, double.vertices, 1e-6
    )
    assert not list(layer.parameters())


@pytest.mark.parametrize("threads_room", [1, 7 * 12 * 60 * 8, 1 << 30])
@pytest.mark.parametrize("grad", [True, False])
def test_skinning_in_pieces_is_skinning(monkeypatch, threads_room, grad):
    monkeypatch.setattr(skinning, "_CACHE_BYTES", threads_room)
    monkeypatch.setattr(skinning, "_SHARED_BYTES", threads_room)
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(10, 3, 60, generator=generator, dtype=torch.float64)
    transforms = torch.randn(10, 6, 3, 4, generator=generator, dtype=torch.float64)
    weights = torch.rand(6, 60, generator=generator, dtype=torch.float64)
    ones = torch.ones(10, 1, 60, dtype=torch.float64)
    wanted = torch.einsum("jv,bjrc,bcv->bvr", weights, transforms, torch.cat([points, ones], dim=1))
    with torch.set_grad_enabled(grad):
        found = blend_skinning(points, transforms, weights)
    assert found.is_contiguous()
    close(found, wanted, 1e-12)


def test_bad_input_is_named(fake):
    model, embedding = fake
    layer = FlameLayer(model, embedding, num_shape=4, num_expression=3)
    for parameters, message in (
        ({"shape": torch.zeros(2, 5)}, r"FLAME parameter shape: expected \(1 or 2, up to 4\)"),
        ({"jaw_pose": torch.zeros(2, 6)}, r"jaw_pose: expected \(1 or 2, 3\) torch.float32 on cpu, found \(2, 6\)"),
        ({"jaw_pose": torch.zeros(3)}, "jaw_pose"),
        ({"jaw_pose": torch.zeros(2, 3), "neck_pose": torch.zeros(3, 3)}, r"jaw_pose: expected \(1 or 3, 3\)"),
        ({"eye_pose": torch.zeros(1, 6, dtype=torch.float64)}, "torch.float64"),
    ):
        with pytest.raises(InputError, match=message):
            layer(**parameters)
    with pytest.raises(InputError, match="contour: expected one of"):
        FlameLayer(model, embedding, contour="other")
    without = FlameLayer(model)
    assert without().landmarks is None
    with pytest.raises(InputError, match="a landmark embedding"):
        without.landmarks()
    frontal = LandmarkEmbedding(embedding.face_idx, embedding.bary, embedding.faces, 60)
    with pytest.raises(InputError, match="a contour table"):
        FlameLayer(model, frontal)
    assert FlameLayer(model, frontal, contour="fixed")().landmarks.shape == (1, 68, 3)
    with pytest.raises(InputError, match="60 vertices, found 61"):
        FlameLayer(model, LandmarkEmbedding(embedding.face_idx, embedding.bary, embedding.faces, 61))


def test_equal_to_smplx_on_the_same_file(tmp_path, fake, case, reference):
    smplx = pytest.importorskip("smplx")
    model, embedding = fake
    arrays = reference("c10_fake_flame_model")
    np.savez(
        tmp_path / "FLAME_NEUTRAL.npz",
        **{key: value for key, value in arrays.items() if key[:3] not in ("lmk", "dyn", "ful")},
    )
    static = {"lmk_face_idx": arrays["lmk_face_idx"], "lmk_b_coords": arrays["lmk_b_coords"]}
    (tmp_path / "flame_static_embedding.pkl").write_bytes(pickle.dumps(static))
    dynamic = np.array({"lmk_face_idx": arrays["dyn_face_idx"], "lmk_b_coords": arrays["dyn_b_coords"]}, dtype=object)
    np.save(tmp_path / "flame_dynamic_embedding.npy", dynamic, allow_pickle=True)
    theirs = smplx.FLAME(
        str(tmp_path),
        ext="npz",
        num_betas=100,
        num_expression_coeffs=50,
        use_face_contour=True,
        batch_size=16,
        create_transl=False,
    )
    generator = torch.Generator().manual_seed(5)
    shape, expression = torch.randn(16, 100, generator=generator), torch.randn(16, 50, generator=generator)
    pose, translation = 0.4 * torch.randn(16, 15, generator=generator), torch.randn(16, 3, generator=generator)
    wanted = theirs(
        betas=shape, expression=expression, global_orient=pose[:, :3], neck_pose=pose[:, 3:6], jaw_pose=pose[:, 6:9],
        leye_pose=pose[:, 9:12], reye_pose=pose[:, 12:], transl=translation,
    )  # fmt: skip
    out = FlameLayer(model, embedding, contour="smplx")(
        shape, expression, pose[:, :3], pose[:, 3:6], pose[:, 6:9], pose[:, 9:], translation
    )
    close(out.vertices, wanted.vertices)
    close(out.joints, wanted.joints[:, :5])
    close(out.landmarks, torch.cat([wanted.joints[:, 56:], wanted.joints[:, 5:56]], dim=1))


def test_published_contour_lies_on_the_visible_outline(shared_data):
    """The real embedding on the real template: which way the published table turns."""
    from face4d.landmarks import load_flame_embedding
    from face4d.mesh.obj import read_obj

    template, faces = read_obj(shared_data / "flame_assets" / "template.obj")
    count = len(template)
    model = FlameModel(
        template, np.zeros((count, 3, 1)), np.zeros((count, 3, 1)), np.zeros((count, 3, 36)),
        np.full((5, count), 1 / count), np.tile([0.0, 1, 0, 0, 0], (count, 1)), faces,
    )  # fmt: skip
    embedding = load_flame_embedding(shared_data / "flame_assets")
    layers = {name: FlameLayer(model, embedding, contour=name) for name in ("geometry", "smplx")}
    for side, far in ((1, slice(9, 15)), (-1, slice(2, 8))):  # cheek points of the side that hides
        turn = torch.tensor([[0.0, side * 0.5, 0.0]])
        outward = {
            name: side * layer(neck_pose=turn, global_pose=0.2 * turn).landmarks[0, far, 0].mean()
            for name, layer in layers.items()
        }
        assert outward["geometry"] > outward["smplx"] + 0.005


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_what_the_processor_gives(fake):
    layer = FlameLayer(*fake, num_shape=4, num_expression=3, dtype=torch.float64)
    here = {name: value.requires_grad_() for name, value in draws(9).items()}
    out = layer(**here)
    (out.vertices.square().sum() + out.landmarks.sum()).backward()
    there = {name: value.detach().cuda().requires_grad_() for name, value in here.items()}
    on_device = layer.cuda()(**there)
    (on_device.vertices.square().sum() + on_device.landmarks.sum()).backward()
    close(on_device.vertices.cpu(), out.vertices, 1e-12)
    close(on_device.landmarks.cpu(), out.landmarks, 1e-12)
    for name in PARAMETERS:
        close(there[name].grad.cpu(), here[name].grad, 1e-10)


def test_the_layer_of_a_folder(tmp_path):
    from face4d.demo.write import write_demo

    write_demo(tmp_path, subjects=1, coma_labels=[], florence_labels=[])
    layer = load_flame_layer(tmp_path / "models" / "flame")
    assert (layer.num_shape, layer.num_expression) == (100, 50)
    assert layer().landmarks.shape == (1, 68, 3)
    same = load_flame_layer(tmp_path / "models" / "flame" / "generic_model.npz", num_shape=3, dtype=torch.float64)
    close(same().landmarks.float(), layer().landmarks)
    (tmp_path / "models" / "flame" / "generic_model.npz").unlink()
    with pytest.raises(InputError, match="a FLAME model there"):
        load_flame_layer(tmp_path / "models" / "flame")
