"""Fitting FLAME parameters: known ones come back, and files that are no faces are refused."""

import json

import numpy as np
import pytest
import torch

from face4d.commands.fit import main
from face4d.demo.flame import demo_flame_model, dynamic_embedding, static_embedding
from face4d.demo.head import demo_head, identity_weights
from face4d.demo.write import write_demo
from face4d.errors import InputError
from face4d.flame.fit import fit_flame
from face4d.flame.fit_files import load_parameters, write_fit
from face4d.flame.layer import FlameLayer
from face4d.landmarks import LandmarkEmbedding, save_embedding
from face4d.mesh.ply import read_ply, write_ply


@pytest.fixture(scope="module")
def embedding():
    head = demo_head(0)
    static, contour = static_embedding(head), dynamic_embedding(head)
    return LandmarkEmbedding(
        *(np.concatenate([table[0], points]) for table, points in zip(contour, static)),
        head.faces,
        len(head.mean),
        *contour,
    )


@pytest.fixture(scope="module")
def layer(embedding):
    return FlameLayer(demo_flame_model(0), embedding, contour="fixed")


@pytest.fixture
def known():
    """Three frames of one person, turned and moved."""
    generator = torch.Generator().manual_seed(2)

    def draw(rows, columns, spread):
        return spread * torch.randn(rows, columns, generator=generator)

    jaw = torch.tensor([[0.05, 0, 0], [0.15, 0.01, 0], [0.25, 0, 0.01]])
    return {
        "shape": draw(1, 14, 1.0), "expression": draw(3, 20, 0.6), "global_pose": draw(3, 3, 0.4),
        "neck_pose": draw(3, 3, 0.1), "jaw_pose": jaw, "eye_pose": draw(3, 6, 0.1), "translation": draw(3, 3, 0.2),
    }  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    write_demo(root, subjects=1, coma_labels=[], florence_labels=[])
    return root


def test_known_parameters_come_back_from_vertices(layer, known):
    target = layer(**known).vertices.numpy()
    fit = fit_flame(layer, target)
    assert fit.residuals.shape == target.shape[:2] and fit.residuals.max() < 0.1  # mm
    np.testing.assert_allclose(fit.residuals, 1e3 * np.linalg.norm(fit.vertices - target, axis=-1), atol=1e-3)
    for name, value in known.items():
        error = np.abs(fit.parameters[name][..., : value.shape[1]] - value.numpy()).max()
        assert error < (0.1 if name in ("shape", "expression") else 0.01), name
    assert 0 < fit.iterations < 50 and fit.noise == 0.1


def test_known_faces_come_back_from_landmarks(layer, known):
    known["neck_pose"], known["eye_pose"] = torch.zeros(3, 3), torch.zeros(3, 6)
    out = layer(**known)
    fit = fit_flame(layer, out.landmarks.numpy())
    assert fit.residuals.shape == (3, 68) and fit.residuals.max() < 0.5
    assert 1e3 * np.linalg.norm(fit.vertices - out.vertices.numpy(), axis=-1).mean() < 0.5
    assert not fit.parameters["neck_pose"].any() and fit.parameters["eye_pose"].shape == (3, 6)


def test_a_face_the_model_cannot_be_stays_near_the_mean(layer):
    mean = layer().landmarks.numpy()
    other = mean + np.random.default_rng(4).normal(0, 0.006, mean.shape)
    bent, plausible = fit_flame(layer, other, noise=0.1), fit_flame(layer, other)
    assert plausible.noise > 2
    assert np.abs(plausible.parameters["expression"]).max() < 3 < np.abs(bent.parameters["expression"]).max()


def test_smoothness_draws_frames_together(layer, known):
    generator = np.random.default_rng(5)
    still = {
        **known,
        "expression": known["expression"][:1],
        "jaw_pose": known["jaw_pose"][:1],
        "neck_pose": torch.zeros(3, 3),
    }
    target = layer.landmarks(**still).numpy() + generator.normal(0, 0.0005, (3, 68, 3))
    fits = [fit_flame(layer, target, noise=0.5, smoothness=smoothness) for smoothness in (0, 100)]
    changes = [np.abs(np.diff(fit.parameters["expression"], axis=0)).mean() for fit in fits]
    assert changes[1] < 0.3 * changes[0]


def test_targets_that_are_no_faces(layer):
    mean = layer().vertices.numpy()
    for target, message in (
        (mean[0], r"\(T, \d+, 3\) vertices of the model or \(T, 68, 3\) landmarks"),
        (mean[:, :-1], "vertices of the model"),
        (mean[:0], "vertices of the model"),
        (mean * 1e3, r"a face in metres .* found 29\d: millimetres \(times 0.001 gives metres\)"),
        (np.full_like(mean, np.nan), "finite"),
        (np.zeros_like(mean), "metres"),
    ):
        with pytest.raises(InputError, match=message):
            fit_flame(layer, target)


def test_command_line_on_a_mesh_and_on_a_folder(tmp_path, demo, capsys):
    mesh = demo / "actors" / "Demo01.ply"
    main(
        [
            "--model",
            str(demo / "models" / "flame"),
            "--mesh",
            str(mesh),
            "--output",
            str(tmp_path / "one"),
            "--quiet",
        ]
    )
    printed = capsys.readouterr().out.splitlines()
    assert (
        printed[0].startswith("residual at the vertices: mean 0.0")
        and printed[-1] == f"wrote {tmp_path / 'one' / 'fitted.ply'}"
    )
    target, faces = read_ply(mesh)
    fitted, fitted_faces = read_ply(tmp_path / "one" / "fitted.ply")
    np.testing.assert_array_equal(fitted_faces, faces)
    assert 1e3 * np.linalg.norm(fitted - target, axis=1).max() < 0.1
    from face4d.flame.layer import load_flame_layer

    parameters = load_parameters(tmp_path / "one" / "flame_parameters.npz")
    again = load_flame_layer(demo / "models" / "flame")(
        **{name: torch.as_tensor(value) for name, value in parameters.items()}
    )
    np.testing.assert_allclose(again.vertices[0], fitted, atol=2e-6)

    for frame in range(2):
        write_ply(tmp_path / "frames" / f"a.{frame:03d}.ply", target + np.float32([0, 0, 0.01 * frame]), faces)
    call = [
        "--model",
        str(demo / "models" / "flame"),
        "--mesh",
        str(tmp_path / "frames"),
        "--output",
        str(tmp_path / "one"),
    ]
    call += ["--quiet"]
    with pytest.raises(InputError, match="--overwrite"):
        main(call)
    main([*call, "--overwrite"])
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "fitted_0000.ply",
        "fitted_0001.ply",
        "flame_parameters.npz",
    ]
    with np.load(tmp_path / "one" / "flame_parameters.npz") as archive:
        assert archive["residual_mm"].shape == (2,) and archive["shape"].shape == (1, 100)
        np.testing.assert_allclose(np.diff(archive["translation"], axis=0), [[0, 0, 0.01]], atol=1e-3)


def test_command_line_on_landmarks_and_on_another_topology(tmp_path, demo, layer, capsys):
    model = str(demo / "models" / "flame")
    neutral = layer(shape=torch.ones(1, 5)).landmarks.numpy()
    np.save(tmp_path / "a.npy", neutral)
    call = ["--model", model, "--landmarks", str(tmp_path / "a.npy"), "--output", str(tmp_path / "a"), "--quiet"]
    main([*call, "--meshes", "none"])
    assert "residual at the landmarks: mean 0.0" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["flame_parameters.npz"]
    main([*call, "--overwrite"])
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["fitted.ply", "flame_parameters.npz"]
    np.save(tmp_path / "other_unit.npy", np.concatenate([neutral, 1e3 * neutral]))
    with pytest.raises(InputError, match="frame 1 .*millimetres"):
        main(["--model", model, str(tmp_path / "other_unit.npy"), "--output", str(tmp_path / "c")])

    finer = demo_head(1)
    static, contour = static_embedding(finer), dynamic_embedding(finer)
    other = LandmarkEmbedding(
        *(np.concatenate([table[0], points]) for table, points in zip(contour, static)), finer.faces, len(finer.mean)
    )
    save_embedding(tmp_path / "finer.npz", other)
    write_ply(tmp_path / "finer.ply", finer.neutral(identity_weights(3, 0)), finer.faces)
    call = [
        "--model",
        model,
        "--mesh",
        str(tmp_path / "finer.ply"),
        "--output",
        str(tmp_path / "b"),
        "--quiet",
    ]
    with pytest.raises(
        InputError,
        match="model's topology .* or --landmark-embedding, or first: .*register.py .*, found 3627 vertices, 6984",
    ):
        main(call)
    assert not (tmp_path / "b").exists()
    main([*call, "--landmark-embedding", str(tmp_path / "finer.npz")])
    printed = capsys.readouterr().out
    assert "residual at the landmarks" in printed
    assert float(printed.split("mean ")[1].split(" mm")[0]) < 0.6  # two samplings of one surface
    assert read_ply(tmp_path / "b" / "fitted.ply")[0].shape == (layer.num_vertices, 3)


def test_a_fit_that_is_cut_leaves_what_was_there(tmp_path, layer):
    fit, faces = fit_flame(layer, layer().landmarks.numpy()), layer.faces.numpy()
    written, residuals = write_fit(tmp_path / "out", [fit], 1, faces, "npy")
    assert written == [tmp_path / "out" / "flame_parameters.npz", tmp_path / "out"] and residuals.shape == (1, 2)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "fitted.npy"), fit.vertices)

    def cut():
        yield fit
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_fit(tmp_path / "out", cut(), 2, faces)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["fitted.npy", "flame_parameters.npz", "out"]


def test_one_mesh_is_looked_at_once(tmp_path, demo, monkeypatch):
    seen = []
    monkeypatch.setattr("face4d.flame.fit_files.check_sequence", seen.append)
    call = ["--model", str(demo / "models" / "flame"), "--output", str(tmp_path / "out"), "--quiet"]
    main([str(demo / "actors" / "Demo01.ply"), *call])
    assert len(seen) == 1


def test_bad_files_are_named(tmp_path, demo):
    model = ["--model", str(demo / "models" / "flame"), "--output", str(tmp_path / "out"), "--quiet"]
    np.save(tmp_path / "short.npy", np.zeros((4, 60, 3)))
    np.save(tmp_path / "objects.npy", np.array({"a": 1}, dtype=object), allow_pickle=True)
    (tmp_path / "text.json").write_text(json.dumps({}))
    for arguments, message in (
        (["--landmarks", str(tmp_path / "none.npy")], "none.npy: expected landmarks .*, found no such file"),
        (["--landmarks", str(tmp_path / "short.npy")], r"found float64 \(4, 60, 3\)"),
        (["--landmarks", str(tmp_path / "objects.npy")], "objects.npy: expected landmarks"),
        (["--landmarks", str(tmp_path / "text.json")], "text.json: expected landmarks"),
        (
            ["--landmarks", str(tmp_path / "short.npy"), "--landmark-embedding", "a.npz"],
            "--landmark-embedding: expected a --mesh",
        ),
        (["--mesh", str(tmp_path / "none.ply")], "none.ply"),
        (["--mesh", str(tmp_path)], "frames, found none"),
    ):
        with pytest.raises(InputError, match=message):
            main([*model, *arguments])
    np.savez(tmp_path / "half.npz", shape=np.zeros((1, 3)))
    with pytest.raises(InputError, match="FLAME parameters"):
        load_parameters(tmp_path / "half.npz")
    with pytest.raises(InputError, match="no such file"):
        load_parameters(tmp_path / "none.npz")
    assert not (tmp_path / "out").exists()


def test_one_line_and_exit_code_from_a_shell(tmp_path, run_script):
    result = run_script(
        "face4d fit", "--model", tmp_path, "--mesh", "a.ply", "--output", "out", cwd=tmp_path, check=False
    )
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "a FLAME model there" in result.stderr
