"""Fitting sequences: known parameters come back, and the answer is that of the plain way, L-BFGS on all at once."""

import numpy as np
import pytest
import torch

from face4d.commands.fit import main
from face4d.demo.flame import demo_flame_model, dynamic_embedding, static_embedding
from face4d.demo.head import demo_head
from face4d.errors import InputError
from face4d.flame import fit, least_squares
from face4d.flame.fit import fit_flame, fit_frames, fit_person, joined
from face4d.flame.fit_files import load_parameters
from face4d.flame.layer import FlameLayer
from face4d.flame.model import save_flame_model
from face4d.landmarks import LandmarkEmbedding
from face4d.mesh.frames import open_frames
from face4d.mesh.ply import read_ply, write_ply

MODEL = demo_flame_model(0)
LAYER = FlameLayer(MODEL)
FRAMES = 40


def embedding_of_demo():
    head = demo_head(0)
    static, contour = static_embedding(head), dynamic_embedding(head)
    corners, weights = (np.concatenate([table[0], points]) for table, points in zip(contour, static))
    return LandmarkEmbedding(corners, weights, head.faces, len(head.mean), *contour)


def moving(frames=FRAMES, turn=0.3):
    """Parameters of one person who turns, speaks and looks about, smooth over the frames."""
    generator = torch.Generator().manual_seed(3)
    time = torch.linspace(0, 1, frames)[:, None]

    def wave(columns, spread):
        phase, speed = torch.rand(2, 1, columns, generator=generator) * torch.tensor([6.0, 3.0])[:, None, None]
        return spread * torch.sin(phase + (2 + speed) * time)

    jaw = torch.cat([0.1 + 0.1 * torch.sin(6 * time), torch.zeros(frames, 2)], dim=1)
    return {
        "shape": torch.randn(1, 14, generator=generator), "expression": wave(20, 0.6),
        "global_pose": torch.cat([0 * time, turn * time, 0 * time], dim=1), "neck_pose": wave(3, 0.05),
        "jaw_pose": jaw, "eye_pose": wave(6, 0.1), "translation": wave(3, 0.05),
    }  # fmt: skip


def saved(tmp_path, vertices):
    np.save(tmp_path / "motion.npy", vertices)
    return open_frames(tmp_path / "motion.npy", MODEL.num_vertices, MODEL.faces, "the model's topology")


def collected(parts):
    parts = list(parts)
    whole = joined([part.parameters for part in parts])
    return whole, np.concatenate([part.vertices for part in parts]), np.concatenate([part.residuals for part in parts])


def test_known_parameters_come_back(tmp_path):
    known = moving()
    target = LAYER(**known).vertices.numpy()
    frames = saved(tmp_path, target)
    person = fit_person(LAYER, frames)
    parameters, vertices, residuals = collected(fit_frames(person, frames))
    assert residuals.shape == target.shape[:2] and residuals.max() < 0.1  # mm
    np.testing.assert_allclose(residuals, 1e3 * np.linalg.norm(vertices - target, axis=-1), atol=1e-3)
    assert person.noise == 0.1
    for name, value in known.items():
        error = np.abs(parameters[name][:, : value.shape[1]] - value.numpy()).max()
        assert error < (0.1 if name in ("shape", "expression") else 0.01), name
    again = LAYER(**{name: torch.tensor(value) for name, value in parameters.items()})
    np.testing.assert_allclose(again.vertices.numpy(), vertices, atol=2e-6)


def energy(evaluate, values, target, smoothness):
    """With a noise of 1 mm, as the fit documents it."""
    error = (1e3 * (evaluate(**values) - target)).square().sum()
    poses = {"neck_pose": 0.3, "jaw_pose": 0.2, "eye_pose": 0.2}
    prior = values["shape"].square().sum() + values["expression"].square().sum()
    prior = prior + sum((values[name] / spread).square().sum() for name, spread in poses.items() if name in values)
    change = values["expression"].diff(dim=0).square().sum() + (values["jaw_pose"] / 0.2).diff(dim=0).square().sum()
    return error + prior + smoothness * change


def plain(evaluate, start, target, smoothness):
    """What L-BFGS reaches in double precision."""
    variables = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimiser = torch.optim.LBFGS(
        list(variables.values()), max_iter=150, history_size=30, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        value = energy(evaluate, variables, target, smoothness)
        value.backward()
        return value

    optimiser.step(closure)
    with torch.no_grad():
        return float(energy(evaluate, variables, target, smoothness))


@pytest.mark.parametrize(
    ("contour", "smoothness"),
    [("vertices", 0.0), ("vertices", 20.0), ("fixed", 20.0), ("geometry", 0.0), ("deca", 20.0), ("smplx", 0.0)],
)
def test_the_answer_is_that_of_all_frames_at_once(contour, smoothness):
    on_landmarks = contour != "vertices"
    embedding, contour = (embedding_of_demo(), contour) if on_landmarks else (None, "fixed")
    layers = [FlameLayer(MODEL, embedding, num_shape=14, num_expression=20, contour=contour, dtype=dtype)
              for dtype in (torch.float32, torch.float64)]  # fmt: skip
    known = moving(8, turn=0.6)
    if on_landmarks:
        del known["neck_pose"], known["eye_pose"]
    known = {name: value.double() for name, value in known.items()}
    exact = layers[1].landmarks if on_landmarks else lambda **values: layers[1](**values).vertices
    points = exact(**known)
    target = points + 1e-3 * torch.randn(points.shape, generator=torch.Generator().manual_seed(1))
    found = fit_flame(layers[0], target.numpy(), noise=1.0, smoothness=smoothness)
    values = {name: torch.tensor(value).double() for name, value in found.parameters.items()}
    if on_landmarks:
        assert not values.pop("neck_pose").any() and not values.pop("eye_pose").any()
    best = plain(exact, known, target, smoothness)
    assert float(energy(exact, values, target, smoothness)) < best * 1.001


def test_chunks_leave_no_trace(tmp_path, monkeypatch):
    target = LAYER(**moving()).vertices.numpy()
    frames = saved(tmp_path, target + np.random.default_rng(2).normal(0, 0.002, target.shape).astype(np.float32))
    person = fit_person(LAYER, frames)
    parts, _, _ = collected(fit_frames(person, frames, smoothness=50))
    monkeypatch.setattr(fit, "CHUNK", FRAMES)
    whole, _, _ = collected(fit_frames(person, frames, smoothness=50))
    alone, _, _ = collected(fit_frames(person, frames))
    apart = np.abs(parts["expression"] - whole["expression"]).max()
    assert apart < 0.05 < 0.25 < np.abs(alone["expression"] - whole["expression"]).max()
    steps = [np.abs(np.diff(found["expression"], axis=0)).mean() for found in (parts, alone)]
    assert steps[0] < 0.7 * steps[1]


def test_a_head_that_turns_past_half_a_turn_turns_steadily(tmp_path):
    target = LAYER(**moving(45, turn=4.5)).vertices.numpy()
    frames = saved(tmp_path, target)
    parameters, _, residuals = collected(fit_frames(fit_person(LAYER, frames), frames))
    turns = np.linalg.norm(np.diff(parameters["global_pose"], axis=0), axis=1)
    assert turns.max() < 0.3 and residuals.max() < 0.1


def test_block_tridiagonal_equations():
    generator = torch.Generator().manual_seed(0)
    count, size = 5, 4
    half = torch.randn(count, size, size, dtype=torch.float64, generator=generator)
    blocks, changes = half @ half.transpose(1, 2) + 5 * torch.eye(size), torch.rand(size, generator=generator).double()
    right = torch.randn(count, size, dtype=torch.float64, generator=generator)
    dense = torch.block_diag(*blocks)
    for frame in range(count - 1):
        here, next_one = slice(frame * size, (frame + 1) * size), slice((frame + 1) * size, (frame + 2) * size)
        dense[here, next_one] = dense[next_one, here] = -torch.diag(changes)
    found = least_squares._block_tridiagonal(blocks, changes, right[..., None])
    np.testing.assert_allclose(found.flatten(), torch.linalg.solve(dense, right.flatten()), atol=1e-10)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequence")
    save_flame_model(folder / "model.npz", MODEL)
    target = LAYER(**moving(20)).vertices.numpy()
    np.save(folder / "flat.npy", target.astype(np.float64).reshape(20, -1))
    return folder, target


def test_command_line(place, capsys):
    folder, target = place
    call = ["--model", str(folder / "model.npz"), "--quiet", "--output", str(folder / "out")]
    main([str(folder / "flat.npy"), *call])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("residual at the vertices: mean 0.0") and "20 frames at " in said[1]
    assert said[-1] == f"wrote {folder / 'out'}"
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["fitted.npy", "flame_parameters.npz"]
    fitted = np.load(folder / "out" / "fitted.npy")
    assert fitted.dtype == np.float32 and 1e3 * np.abs(fitted - target).max() < 0.1
    parameters = load_parameters(folder / "out" / "flame_parameters.npz")
    assert parameters["expression"].shape[0] == 20 and parameters["shape"].shape[0] == 1
    with np.load(folder / "out" / "flame_parameters.npz") as archive:
        assert archive["residual_mm"].shape == (20,)
    (folder / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        main([str(folder / "flat.npy"), *call])
    main([str(folder / "flat.npy"), *call, "--overwrite", "--meshes", "ply", "--smoothness", "1"])
    names = sorted(path.name for path in (folder / "out").iterdir())
    assert names[0] == "fitted_0000.ply" and names[-2:] == ["flame_parameters.npz", "notes.txt"] and len(names) == 22
    vertices, faces = read_ply(folder / "out" / "fitted_0019.ply")
    assert 1e3 * np.abs(vertices - target[19]).max() < 1 and np.array_equal(faces, MODEL.faces)
    main([str(folder / "flat.npy"), *call, "--overwrite", "--meshes", "none"])
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["flame_parameters.npz", "notes.txt"]


def test_bad_sequences_are_named_and_leave_nothing(place, tmp_path):
    folder, target = place
    nan, far = target.copy(), target.copy()
    nan[7, 5, 1], far[9:] = np.nan, far[9:] + np.float32([0, 0.3, 0])
    for name, array, message in (
        ("nan", nan, r"nan.npy, frames 0 to 19: expected finite .* \[7, 5, 1\]"),
        ("far", far, "far.npy, frame 9: expected points near those of far.npy, frame 8"),
        ("mm", 1e3 * target, "mm.npy, frame 0: expected a face in metres .*millimetres"),
        ("other", target[:, :-1], rf"other.npy: expected frames \(T, {MODEL.num_vertices}, 3\) .*found float32"),
        ("whole", np.ones((2, MODEL.num_vertices, 3), int), "whole.npy: expected frames .*found int64"),
        ("empty", target[:0], "empty.npy: expected frames"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(InputError, match=message):
            main([str(tmp_path / f"{name}.npy"), "--model", str(folder / "model.npz"), "--output", str(tmp_path / "o")])
    (tmp_path / "cut.npy").write_bytes((folder / "flat.npy").read_bytes()[:-8])
    with pytest.raises(InputError, match="cut.npy"):
        main([str(tmp_path / "cut.npy"), "--model", str(folder / "model.npz"), "--output", str(tmp_path / "o")])
    for frame in range(3):
        write_ply(tmp_path / "frames" / f"a.{frame}.ply", target[frame][: 700 if frame == 2 else None], MODEL.faces[:9])
    with pytest.raises(InputError, match="the model's topology"):
        main([str(tmp_path / "frames"), "--model", str(folder / "model.npz"), "--output", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()
