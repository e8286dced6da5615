"""FLAME parameters fitted to meshes or landmarks by L-BFGS on a regularised least-squares energy, and their files."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from tqdm import tqdm

from face4d.constants import NUM_LANDMARKS
from face4d.errors import InputError
from face4d.flame.layer import FlameLayer
from face4d.flame.model import FlameModel
from face4d.landmarks import (
    DYNAMIC_FILE,
    STATIC_FILE,
    TEMPLATE_FILE,
    check_mesh,
    extract,
    load_embedding,
    load_flame_embedding,
    mesh_remarks,
)
from face4d.mesh.frames import Frames, check_sequence, open_frames
from face4d.mesh.plausibility import as_float32, check_face, check_head, face_remarks, report
from face4d.mesh.ply import write_ply
from face4d.mesh.triangles import OtherTopologyError
from face4d.runtime.arrays import load_npz, load_numbers
from face4d.runtime.atomic import replacing
from face4d.runtime.progress import Lines, track

# Standard deviations of the priors, radians; coefficients have standard deviation 1 by their meaning.
POSE_DEVIATION = {"neck_pose": 0.3, "jaw_pose": 0.2, "eye_pose": 0.2}
# A step of one in each variable moves the face by some millimetres, so that one step length suits them all.
_UNITS = {
    "shape": 1.0,
    "expression": 1.0,
    "global_pose": 0.05,
    "neck_pose": 0.05,
    "jaw_pose": 0.05,
    "eye_pose": 0.2,
    "translation": 0.003,
}
_STEPS_PER_ROUND = 10
_CONVERGED = 1e-4  # relative gain of a round below which a fit ends
FIRST_NOISE = 3.0  # millimetres, where the estimate of the noise starts
LEAST_NOISE = {"vertices": 0.1, "landmarks": 0.5}  # millimetres


@dataclass(frozen=True)
class FlameFit:
    """Parameters under the names of :meth:`FlameLayer.forward <face4d.flame.layer.FlameLayer.forward>`, and how well
    they fit.

    Attributes:
        parameters: shape (1, S), expression (T, E), global_pose, neck_pose, jaw_pose (T, 3), eye_pose (T, 6),
            translation (T, 3).
        vertices: (T, V, 3) float32 metres, the fitted faces.
        residuals: (T, N) distances from the N given points, millimetres.
        noise: millimetres per coordinate, given or estimated.
        iterations: of L-BFGS.
    """

    parameters: dict[str, np.ndarray]
    vertices: np.ndarray
    residuals: np.ndarray
    noise: float
    iterations: int


def fit_flame(
    layer: FlameLayer,
    target: np.ndarray,
    *,
    name: str | Path = "target",
    noise: float | None = None,
    smoothness: float = 0.0,
    free: tuple[str, ...] | None = None,
    iterations: int = 300,
    quiet: bool = True,
) -> FlameFit:
    """Fit the layer to one face or to a sequence of one person, whose frames share the shape coefficients.

    Minimised, in units of the noise: the squared distances, plus the squared coefficients and poses over their expected
    spread, plus ``smoothness`` times the squared changes of expression and jaw from frame to frame. It starts from the
    rigid motion that takes the template to each frame (Kabsch 1976). Where the noise is not given, it is the root mean
    square residual, estimated again after each fit: a model that cannot be the face in question then stays near its
    mean instead of being bent to every point.

    Args:
        layer: one with the contour that the landmarks were made with (``fixed`` for the files of step 3).
        target: metres, (T, V, 3) vertices in the layer's topology or (T, 68, 3) landmarks, contour first.
        name: of the target, for errors.
        noise: millimetres per coordinate that a point may be expected to miss the model by; larger trusts the priors
            more. Default: estimated, at least 0.1 for vertices and 0.5 for landmarks.
        smoothness: 0 fits every frame by itself but for the shape.
        free: which of neck_pose, jaw_pose, eye_pose to fit. Default all for vertices; the jaw for landmarks, which
            neither tell a turn of the neck from one of the head nor see where the eyes look.
        iterations: of L-BFGS at most.
        quiet: no progress bar.

    Raises:
        InputError: a target of another shape, not finite, or no face in metres (:mod:`face4d.mesh.plausibility`).

    Example:
        >>> fit = fit_flame(load_flame_layer("models/flame", contour="fixed"), np.load("Happy_CH01.npy"))
        >>> fit.parameters["expression"].shape
        (61, 50)
    """
    target = np.asarray(target)
    on_landmarks = target.ndim == 3 and target.shape[1] == NUM_LANDMARKS != layer.num_vertices
    wanted = (layer.num_vertices, 3)
    if target.ndim != 3 or not len(target) or (target.shape[1:] != wanted and not on_landmarks) or target.shape[2] != 3:
        raise InputError(
            name, f"(T, {wanted[0]}, 3) vertices of the model or (T, {NUM_LANDMARKS}, 3) landmarks", f"{target.shape}"
        )
    if not np.isfinite(target).all():
        raise InputError(name, "finite coordinates", "NaN or infinity")
    for points in target:
        check_face(name, points) if on_landmarks else check_head(name, points)
    evaluate = layer.landmarks if on_landmarks else lambda **parameters: layer(**parameters).vertices
    free = free if free is not None else (("jaw_pose",) if on_landmarks else tuple(POSE_DEVIATION))

    like = layer.joint_template
    points = torch.as_tensor(target, dtype=like.dtype, device=like.device)  # (T, N, 3)
    variables = _start(layer, evaluate, target, free)
    held = {name: like.new_zeros(1, _columns(name)) for name in POSE_DEVIATION if name not in free}

    def parameters() -> dict[str, Tensor]:
        return held | {name: value * _UNITS[name] for name, value in variables.items()}

    def energy(noise: float) -> tuple[Tensor, Tensor]:
        """Mean energy per point in mm^2, and the mean square distance."""
        values = parameters()
        error = ((evaluate(**values) - points) * 1e3).square().sum(-1)  # (T, N) mm^2
        prior = values["shape"].square().sum() + values["expression"].square().sum()
        for name in free:
            prior = prior + (values[name] / POSE_DEVIATION[name]).square().sum()
        if smoothness:
            prior = prior + smoothness * (
                values["expression"].diff(dim=0).square().sum() + (values["jaw_pose"] / 0.2).diff(dim=0).square().sum()
            )
        return (error.sum() + noise**2 * prior) / error.numel(), error.detach().mean()

    least = LEAST_NOISE["landmarks" if on_landmarks else "vertices"]
    assumed, done = noise or FIRST_NOISE, 0
    with track("fit", total=iterations, unit="step", quiet=quiet) as bar:
        while True:
            done, square = _minimise(partial(energy, assumed), list(variables.values()), done, iterations, bar)
            found = max(least, (square / 3) ** 0.5)
            if noise is not None or done >= iterations or 0.8 < found / assumed < 1.25:
                break
            assumed = found
        bar.total = done  # converged, or at the limit
        bar.update(done - bar.n)
    return _result(layer, evaluate, parameters(), points, assumed, done)


def _minimise(
    energy: Callable[[], tuple[Tensor, Tensor]],
    variables: list[Tensor],
    done: int,
    most: int,
    bar: tqdm[Any] | Lines[Any],
) -> tuple[int, float]:
    """Minimise by L-BFGS until it converges or iteration ``most``; returns iterations done and the mean square
    distance.
    """
    optimiser = torch.optim.LBFGS(
        variables,
        max_iter=_STEPS_PER_ROUND,
        history_size=30,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
    )
    start, before = done, float("inf")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss, _ = energy()
        loss.backward()
        return loss

    while True:
        with torch.no_grad():
            value, square = (float(part) for part in energy())
        bar.set_postfix_str(f"{square**0.5:.3f} mm", refresh=False)
        bar.update(done - bar.n)
        if done >= most or before - value <= _CONVERGED * value:
            return done, square
        before = value
        optimiser.param_groups[0]["max_iter"] = min(_STEPS_PER_ROUND, most - done)
        optimiser.step(closure)
        steps = start + optimiser.state[variables[0]]["n_iter"]
        if steps == done:
            return done, square
        done = steps


def _columns(pose: str) -> int:
    return 6 if pose == "eye_pose" else 3


def _start(
    layer: FlameLayer, evaluate: Callable[..., Tensor], target: np.ndarray, free: tuple[str, ...]
) -> dict[str, Tensor]:
    """The variables, at the mean face moved rigidly onto each frame."""
    like = layer.joint_template
    with torch.no_grad():
        rest = evaluate()[0].double().cpu().numpy()  # (N, 3)
    root = like[0].double().cpu().numpy()
    turns, shifts = np.zeros((len(target), 3)), np.zeros((len(target), 3))
    for frame, points in enumerate(target.astype(np.float64)):
        from_points, to_points = rest - rest.mean(axis=0), points - points.mean(axis=0)
        rotation, _ = Rotation.align_vectors(to_points, from_points)
        turns[frame] = rotation.as_rotvec()
        shifts[frame] = points.mean(axis=0) - rotation.apply(rest.mean(axis=0) - root) - root
    frames = len(target)
    start = {
        "shape": np.zeros((1, layer.num_shape)), "expression": np.zeros((frames, layer.num_expression)),
        "global_pose": turns, "translation": shifts,
    }  # fmt: skip
    for name in free:
        start[name] = np.zeros((frames, _columns(name)))
    return {
        name: torch.as_tensor(value / _UNITS[name], dtype=like.dtype, device=like.device).requires_grad_()
        for name, value in start.items()
    }


def _result(
    layer: FlameLayer,
    evaluate: Callable[..., Tensor],
    values: dict[str, Tensor],
    points: Tensor,
    noise: float,
    iterations: int,
) -> FlameFit:
    frames = len(points)
    with torch.no_grad():
        whole = {name: value if name == "shape" else value.expand(frames, -1) for name, value in values.items()}
        residuals = 1e3 * torch.linalg.vector_norm(evaluate(**whole) - points, dim=-1)  # (T, N)
        vertices = layer(**whole).vertices
    arrays = {name: value.detach().cpu().numpy().astype(np.float32) for name, value in whole.items()}
    return FlameFit(arrays, vertices.cpu().numpy().astype(np.float32), residuals.cpu().numpy(), noise, iterations)


PARAMETER_FILE = "flame_parameters.npz"
MESHES = ("fitted.ply", "fitted.npy", "fitted_[0-9][0-9][0-9][0-9]*.ply")  # that a fit may have written


def frames_of_model(path: Path, model: FlameModel, folder: Path) -> Frames:
    """A sequence of vertices in the model's topology, all of it looked at once.

    Args:
        path: PLY or OBJ, a folder of numbered frames, or an npy (T, V, 3).
        folder: of the model's landmark embeddings, by which the first frame is checked further where they are there.

    Raises:
        InputError: meshes that cannot be read, of another topology, no heads in metres, or that jump.
    """
    try:
        frames = open_frames(path, model.num_vertices, model.faces, "the model's topology")
    except OtherTopologyError as error:
        output = f"{path.stem}_registered{'' if path.is_dir() else '.ply'}"
        command = shlex.join(
            ["python", "Reconstruction/register.py", str(path), "--output", output, "--flame", str(folder)]
        )
        ways = f"or --landmark-embedding, or first: {command}"
        raise InputError(error.path, f"{error.expected} {ways}", error.found) from None
    if all((folder / name).is_file() for name in (STATIC_FILE, DYNAMIC_FILE, TEMPLATE_FILE)):
        # sees more than sizes, a mirrored head for one
        check_mesh(frames.names[0], frames.read(0, 1)[0], frames.faces, load_flame_embedding(folder))
    check_sequence(frames)
    return frames


def points_of_meshes(path: Path, model: FlameModel, folder: Path, landmark_embedding: Path | None = None) -> np.ndarray:
    """The points of meshes to fit: vertices (T, V, 3) if they have the model's topology, else landmarks (T, 68, 3),
    metres.

    Args:
        path: PLY or OBJ, or a folder of numbered frames.
        folder: see :func:`frames_of_model`.
        landmark_embedding: npz of the meshes' own topology.

    Raises:
        InputError: meshes that cannot be read, of another topology without an embedding, no heads in metres, or that
            jump.
    """
    if landmark_embedding is None:
        frames = frames_of_model(path, model, folder)
        return frames.read(0, len(frames))
    own = load_embedding(landmark_embedding)
    frames = open_frames(path, own.num_vertices, own.faces, "the topology of the landmarks")
    landmarks = check_mesh(frames.names[0], frames.read(0, 1)[0], frames.faces, own)
    report(path, mesh_remarks(str(path), frames.faces, landmarks))
    check_sequence(frames)
    return np.concatenate([extract(own, vertices) for _, vertices in frames.parts(64)])


def points_of_landmarks(path: Path) -> np.ndarray:
    """Landmarks (T, 68, 3) in metres of an npy file.

    Raises:
        InputError: another content, or no face in metres.
    """
    expected = f"landmarks (T, {NUM_LANDMARKS}, 3) or ({NUM_LANDMARKS}, 3) in metres (.npy)"
    landmarks = load_numbers(path, expected)
    if (
        landmarks.shape[-2:] != (NUM_LANDMARKS, 3)
        or landmarks.ndim not in (2, 3)
        or landmarks.dtype.kind != "f"
        or not landmarks.size
    ):
        raise InputError(path, expected, f"{landmarks.dtype} {landmarks.shape}")
    landmarks = landmarks.reshape(-1, NUM_LANDMARKS, 3)
    check_face(path, as_float32(path, landmarks))
    report(path, face_remarks(str(path), landmarks[0]))
    return landmarks


def write_fit(output: Path, fit: FlameFit, faces: np.ndarray) -> list[Path]:
    """Write the parameters and the fitted meshes into the folder ``output``; returns the paths, meshes as one when
    there are many.

    Meshes of a longer fit that was there before are removed, so that the folder is one sequence.
    """
    frames = len(fit.vertices)
    names = ["fitted.ply"] if frames == 1 else [f"fitted_{frame:04d}.ply" for frame in range(frames)]
    for name, vertices in zip(names, fit.vertices):
        write_ply(output / name, vertices, faces)
    with replacing(output / PARAMETER_FILE) as temporary, open(temporary, "wb") as file:
        arrays: dict[str, Any] = {**fit.parameters, "residual_mm": fit.residuals.mean(axis=1)}
        np.savez(file, **arrays)
    for old in {old for pattern in MESHES for old in output.glob(pattern)} - {output / name for name in names}:
        old.unlink()
    return [output / PARAMETER_FILE, output / names[0] if frames == 1 else output]


def load_parameters(path: str | Path) -> dict[str, np.ndarray]:
    """The arguments of :class:`~face4d.flame.layer.FlameLayer` that :func:`write_fit` wrote.

    Raises:
        InputError: no such file or other content.

    Example:
        >>> parameters = load_parameters("fitted/flame_parameters.npz")
        >>> layer(**{name: torch.as_tensor(value) for name, value in parameters.items()}).vertices
    """
    names = ("shape", "expression", "global_pose", "neck_pose", "jaw_pose", "eye_pose", "translation")
    expected = f"FLAME parameters (.npz with {', '.join(names)})"
    parameters = load_npz(path, expected, names, ())
    frames = {len(array) for array in parameters.values() if array.ndim == 2} - {1}
    for name, array in parameters.items():
        if array.dtype.kind != "f" or array.ndim != 2 or len(frames) > 1 or not np.isfinite(array).all():
            raise InputError(
                f"{path}, {name}",
                "finite numbers (frames, parameters), one frame or as many as the others",
                f"{array.dtype} {array.shape}",
            )
    return parameters
