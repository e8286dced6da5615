"""Texture models in both published layouts, and hidden parts of a face coloured by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from face4d.deca.checkpoints import LoadedEncoder
from face4d.deca.face_model import find_texture_model, lit, load_face_model, load_texture_model
from face4d.deca.networks import CodeLayout, FaceCode
from face4d.deca.reconstruction import PhotoFace, Reconstruction, Reconstructor
from face4d.deca.results import ResultWriter
from face4d.errors import InputError
from face4d.mesh.geometry import vertex_normals
from face4d.photos.crops import Crop
from face4d.render.lit import shade, to_pixels, to_screen
from face4d.render.texture import texture_of_photo, uv_map
from face4d.synthetic.faces import SyntheticFaces, random_colors

SIDE, COUNT = 64, 5


@pytest.fixture(scope="module")
def face():
    return load_face_model("demo")


@pytest.fixture(scope="module")
def faces(face):
    return SyntheticFaces(face.layer, seed=5).batch(2)


@pytest.fixture(scope="module")
def colours(face, faces):
    """Mean and directions (S, S, 3), (S, S, 3, K) of which the first face's true colours are the mean plus twice the
    first direction."""
    texels = uv_map(face.uv, SIDE)
    regions = SyntheticFaces(face.layer, seed=5).regions
    others = random_colors(regions, COUNT + 1, torch.Generator().manual_seed(4)).numpy()
    maps = np.zeros((COUNT + 1, SIDE, SIDE, 3))
    for number, other in enumerate([*others[:-1], faces.colors[0].numpy()]):
        maps[number][texels.covered] = texels.spread(other, face.uv.mesh_faces)
    mean = maps.mean(axis=0)
    directions = np.stack([(maps[-1] - mean) / 2, *(maps[:-2] - mean)], axis=-1)
    return mean, directions


def save_albedo(path, mean, directions):
    np.savez(path, MU=mean[..., ::-1].ravel(), PC=directions[:, :, ::-1].reshape(-1, directions.shape[-1]))


def test_both_published_layouts_give_the_same_colours(tmp_path, colours, face):
    mean, directions = colours
    save_albedo(tmp_path / "FLAME_albedo_from_BFM.npz", mean, directions)
    np.savez_compressed(
        tmp_path / "FLAME_texture.npz",
        mean=mean[..., ::-1] * 255,
        tex_dir=np.asfortranarray(directions[:, :, ::-1] * 255),
        vt=np.zeros((3, 2)),
    )
    assert find_texture_model(tmp_path).name == "FLAME_albedo_from_BFM.npz"
    assert find_texture_model(tmp_path / "nowhere") is None and find_texture_model(None) is None
    code = np.array([2.0, 0.5, -0.25])
    expected = np.clip(mean + directions[..., :3] @ code, 0, 1)
    for name in ("FLAME_albedo_from_BFM.npz", "FLAME_texture.npz"):
        model = load_texture_model(tmp_path / name, 3)
        assert model.directions.shape == (SIDE * SIDE * 3, 3)
        np.testing.assert_allclose(model.albedo(code, uv_map(face.uv, SIDE)), expected, atol=1e-6)
    half = model.albedo(code, uv_map(face.uv, SIDE // 2))  # texels of half the size lie between four
    blocks = (mean + directions[..., :3] @ code).reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(1, 3)).clip(0, 1)
    np.testing.assert_allclose(half, blocks, atol=1e-6)


def test_files_are_read_in_pieces(tmp_path, colours, monkeypatch):
    from face4d.deca import face_model as texture_model

    monkeypatch.setattr(texture_model, "_PIECE", 1000)
    save_albedo(tmp_path / "a.npz", *colours)
    np.testing.assert_allclose(
        load_texture_model(tmp_path / "a.npz", 2).directions, colours[1].reshape(-1, COUNT)[:, :2], atol=1e-6
    )


def test_other_files_are_one_line(tmp_path, colours):
    mean, directions = colours
    (tmp_path / "text.npz").write_text("no archive")
    save_albedo(tmp_path / "whole.npz", mean, directions)
    data = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    (tmp_path / "damaged.npz").write_bytes(data[:-90000] + bytes(range(9)) + data[-89991:])
    np.savez(tmp_path / "names.npz", MU=mean, pictures=directions)
    np.savez(tmp_path / "words.npz", MU=np.array(["a", "b", "c"]), PC=directions)
    np.savez(tmp_path / "pickle.npz", MU=np.array([{}, {}, {}], dtype=object), PC=directions)
    np.savez(tmp_path / "shape.npz", MU=mean.ravel()[:-3], PC=directions)
    np.savez(tmp_path / "rows.npz", MU=mean, PC=directions[1:])
    np.savez(tmp_path / "nan.npz", MU=mean, PC=directions * np.nan)
    np.savez(tmp_path / "range.npz", MU=mean * 255, PC=directions)
    wrong = {
        "none": "no such file", "text": "unreadable", "cut": "unreadable", "damaged": "unreadable",
        "names": "found arrays MU, pictures", "words": "MU of numbers", "pickle": "MU of numbers",
        "shape": "square picture", "rows": "PC of numbers", "nan": "NaN", "range": "mean colour in 0..1",
    }  # fmt: skip
    for name, found in wrong.items():
        with pytest.raises(InputError, match=found) as error:
            load_texture_model(tmp_path / f"{name}.npz", 2)
        assert f"{name}.npz: expected" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(InputError, match=rf"PC of numbers \({3 * SIDE * SIDE}, {COUNT + 1} or more\)"):
        load_texture_model(tmp_path / "whole.npz", COUNT + 1)


def photo_face(face, faces, texture):
    """The first rendered face as an encoder without errors would tell it, with these texture coefficients."""
    vertices, landmarks, camera = faces.vertices[:1], faces.landmarks[:1], faces.camera[:1]
    code = FaceCode(
        faces.shape[:1], torch.tensor([texture]), faces.expression[:1], faces.pose[:1], camera, faces.light[:1]
    )
    found = Reconstruction(code, vertices, landmarks, face.neutral(code.shape))
    size = faces.images.shape[-1]
    placed, points = (to_pixels(to_screen(part, camera), size)[0].double().numpy() for part in (vertices, landmarks))
    return PhotoFace(faces.images[0].permute(1, 2, 0).numpy(), Crop(1.0, (0.0, 0.0), size), found, placed, points)


def test_what_the_photo_hides_has_the_expected_colours_in_its_light(face, faces, colours, tmp_path):
    save_albedo(tmp_path / "a.npz", *colours)
    found, texels = photo_face(face, faces, [2.0, 0.0]), uv_map(face.uv, 128)
    vertices, mesh_faces = faces.vertices[0].numpy(), face.uv.mesh_faces
    normals = texels.spread(vertex_normals(vertices.astype(float), mesh_faces), mesh_faces)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    shading = shade(torch.tensor(normals[None], dtype=torch.float32), faces.light[:1])[0].numpy()
    true = np.zeros((128, 128, 3))
    true[texels.covered] = np.clip(texels.spread(faces.colors[0].numpy(), mesh_faces) * shading, 0, 1)
    rest = found.face.neutral[0].numpy()
    _, seen = texture_of_photo(found.photo, found.placed, mesh_faces, texels, rest)
    hidden = texels.covered & ~seen
    near, none = found.texture(face, texels)
    assert none is None
    by_model, albedo = found.texture(face, texels, load_texture_model(tmp_path / "a.npz", 2))
    errors = [np.abs(texture - true)[hidden].mean() for texture in (near, by_model)]
    assert errors[1] < 0.03 and errors[1] < errors[0] / 3, errors
    np.testing.assert_array_equal(by_model[seen], near[seen])  # the photo has the last word
    brighter = lit(albedo, texels, vertices, mesh_faces, 2 * faces.light[0].numpy())  # another exposure of the photo
    again, _ = texture_of_photo(found.photo, found.placed, mesh_faces, texels, rest, brighter)
    np.testing.assert_allclose(again[texels.covered], by_model[texels.covered], atol=2e-3)


def test_the_writer_adds_the_albedo_where_there_is_a_model(face, faces, colours, tmp_path, caplog):
    layout = CodeLayout(shape=faces.shape.shape[1], texture=2, expression=faces.expression.shape[1])
    folder = tmp_path / "flame"
    folder.mkdir()
    published = replace(face, uv=replace(face.uv, is_published=True), folder=folder)
    network = torch.nn.Linear(1, 1)
    encoder = LoadedEncoder(tmp_path / "e.tar", network, layout, 224, str(folder))
    found = photo_face(face, faces, [2.0, 0.0])
    names = {
        path.name
        for path in ResultWriter.of_encoder(tmp_path / "without", Reconstructor(encoder, published), SIDE)
        .write("me", found)
        .iterdir()
    }
    save_albedo(folder / "FLAME_texture.npz", *colours)
    assert "me_albedo.png" not in names and find_texture_model(folder) is not None
    with pytest.raises(InputError, match="FLAME_texture.npz"):
        np.savez(folder / "FLAME_texture.npz", mean=1)
        ResultWriter.of_encoder(tmp_path / "bad", Reconstructor(encoder, published), SIDE)
    assert "trained with FLAME_albedo_from_BFM.npz" in caplog.text
    (folder / "FLAME_texture.npz").unlink()
    save_albedo(folder / "FLAME_albedo_from_BFM.npz", *colours)
    written = ResultWriter.of_encoder(tmp_path / "with", Reconstructor(encoder, published), SIDE).write("me", found)
    assert {path.name for path in written.iterdir()} == names | {"me_albedo.png"}
    mean, directions = colours
    albedo = np.asarray(Image.open(written / "me_albedo.png")) / 255
    np.testing.assert_allclose(albedo, np.clip(mean + 2 * directions[..., 0], 0, 1), atol=0.003)
    without_codes = replace(encoder, layout=replace(layout, texture=0))
    assert Reconstructor(without_codes, published).load_texture_model() is None
    unwrapped = replace(published, uv=face.uv)
    assert Reconstructor(encoder, unwrapped).load_texture_model() is None and "no texture layout" in caplog.text
