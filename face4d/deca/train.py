"""What trains the coarse encoder on rendered faces, for which everything is known: network, losses, augmentation,
scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from face4d.deca.config import EncoderConfig
from face4d.deca.face_model import FaceModel
from face4d.deca.networks import CodeLayout, Encoder, PointEncoder, spread_vertices
from face4d.deca.rendered_faces import RenderedFaces, face_errors, landmark_error, photometric_difference, render_faces
from face4d.render.lit import to_screen
from face4d.synthetic.faces import SyntheticFaces

_HELD_OUT_SEED = 1_000_003  # added to the seed: held-out faces are never training faces
UNDRAWN_SEED = 2_000_003  # added to the seed: faces that are never drawn are others
_EDGE = 0.9  # half pictures
_POINT_NOISE = 0.03  # largest standard deviation of the points of faces that are not drawn, half pictures
SHIFT = 4  # pixels of 112 by which pictures are moved, either way


class ScaledEncoder(Encoder):
    """An :class:`Encoder` whose output is brought from unit spread to that of the codes, so that all of them are
    learned at one pace.
    """

    code_mean: Tensor
    code_scale: Tensor

    def __init__(self, outputs: int, backbone: str, hidden: int) -> None:
        super().__init__(outputs, backbone, hidden)
        self.register_buffer("code_mean", torch.zeros(outputs))
        self.register_buffer("code_scale", torch.ones(outputs))

    def fit_scale(self, codes: Tensor) -> None:
        """Take mean and spread from the training codes (N, outputs)."""
        self.code_mean.copy_(codes.mean(0))
        self.code_scale.copy_(codes.std(0).clamp_min(1e-6))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * self.code_scale + self.code_mean

    def codes_and_points(self, images: Tensor) -> tuple[Tensor, None]:
        """Codes (B, outputs), and no points."""
        return self(images).float(), None


def build_network(layout: CodeLayout, config: EncoderConfig) -> PointEncoder | ScaledEncoder:
    """The network of a configuration."""
    if config.backbone == "small":
        return PointEncoder(layout, config.hidden)
    return ScaledEncoder(layout.total, config.backbone, config.hidden)


def code_layout(face: FaceModel) -> CodeLayout:
    """As DECA's, without texture and without coefficients that move nothing (the demo head has fewer than FLAME)."""

    def moving(directions: np.ndarray, most: int) -> int:
        return max(1, min(most, int((abs(directions).max(axis=(0, 1)) > 0).sum())))

    default = CodeLayout()
    shape, expression = face.model.shape_directions, face.model.expression_directions
    return CodeLayout(shape=moving(shape, default.shape), texture=0, expression=moving(expression, default.expression))


class EncoderLoss:
    """The losses of a batch, each divided by the size it has for the mean answer where that is known.

    Args:
        face: the model.
        config: weights.
        layout: of the codes.
        scale: (total,) spread of the codes.
    """

    def __init__(self, face: FaceModel, config: EncoderConfig, layout: CodeLayout, scale: Tensor) -> None:
        self.face, self.config, self.layout, self.scale = face, config, layout, scale
        model, count = face.model, face.model.num_vertices
        self.shape_directions = by_rows(model.shape_directions, layout.shape).to(scale.device)  # (S, 3 V)
        # (E, 3 V)
        self.expression_directions = by_rows(model.expression_directions, layout.expression).to(scale.device)
        # (S + E,) metres
        lengths = torch.cat([self.shape_directions, self.expression_directions]).square().sum(1).div(count).sqrt()
        self.unit = float(lengths.square().sum().sqrt())  # root mean square distance of a random face from the mean one
        # numbers of shape and expression count as far as they move vertices; all others alike
        self.weight = torch.ones(layout.total - layout.light, device=scale.device)
        self.weight[: layout.shape] = lengths[: layout.shape] / lengths.max()
        start = layout.shape + layout.texture
        self.weight[start : start + layout.expression] = lengths[layout.shape :] / lengths.max()

    def __call__(
        self, codes: Tensor, batch: RenderedFaces, points: Tensor | None = None, true_points: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of predicted codes (B, total), and where there are such, of points (B, P, 2); and its parts."""
        config, layer = self.config, self.face.layer
        found = self.layout.split(codes)
        parts = self.geometry(codes[:, : -self.layout.light], batch.codes[:, : -self.layout.light])
        parts["light"] = ((codes - batch.codes) / self.scale)[:, -self.layout.light :].abs().mean()
        landmarks = layer.landmarks(
            shape=found.shape, expression=found.expression, global_pose=found.pose[:, :3], jaw_pose=found.pose[:, 3:]
        )
        parts["landmarks"] = 10 * (to_screen(landmarks, found.camera) - batch.landmarks)[..., :2].abs().mean()
        if points is not None and true_points is not None:
            parts["points"] = 10 * (points - true_points).abs().mean()
        if config.photometric_faces:
            rows = slice(0, config.photometric_faces)
            parts["photometric"] = 5 * photometric_difference(self.face, found[rows], batch.rows(rows))
        return self.weighted(parts), parts

    def geometry(self, codes: Tensor, true: Tensor) -> dict[str, Tensor]:
        """The parts that compare codes without light (B, total - 27) with true ones."""
        difference = codes - true
        shape, start = difference[:, : self.layout.shape], self.layout.shape + self.layout.texture
        neutral = shape @ self.shape_directions  # (B, 3 V): the unturned face is linear in both, but for the jaw
        expressive = neutral + difference[:, start : start + self.layout.expression] @ self.expression_directions
        neutral, expressive = (moved.unflatten(1, (-1, 3)).norm(dim=2).mean() for moved in (neutral, expressive))
        return {
            "code": ((difference / self.scale[: -self.layout.light]).abs() * self.weight).mean(),
            "vertices": (2 * neutral + expressive) / (3 * self.unit),
        }

    def weighted(self, parts: dict[str, Tensor]) -> Tensor:
        """The sum of the parts with their weights."""
        return sum(getattr(self.config, f"weight_{name}") * value for name, value in parts.items())


def face_vertices(face: FaceModel) -> np.ndarray:
    """The vertices of a model that the small network finds beside the landmarks, see :func:`spread_vertices`."""
    with torch.no_grad():
        landmarks = face.layer.landmarks()[0].cpu().numpy()
    return spread_vertices(face.model.template, face.model.faces, landmarks)


def screen_points(vertices: Tensor, landmarks: Tensor, camera: Tensor, chosen: Tensor) -> Tensor:
    """(B, P, 2) where the 68 landmarks and the chosen vertices of posed faces are in their pictures; those beyond the
    edge lie on it.

    The edge is a little inside: no centre of a map can lie farther out than the middle of its last cell.
    """
    return to_screen(torch.cat([landmarks, vertices[:, chosen]], dim=1), camera)[..., :2].clamp(-_EDGE, _EDGE)


def by_rows(directions: np.ndarray, count: int) -> Tensor:
    """(count, 3 V): the first directions of (V, 3, K), flattened."""
    return torch.as_tensor(directions[:, :, :count]).float().permute(2, 0, 1).flatten(1).contiguous()


def render_held_out(
    face: FaceModel, config: EncoderConfig, device: torch.device, count: int | None = None, size: int | None = None
) -> RenderedFaces:
    """The faces that a training is scored on, or the first ``count`` of them, ``size`` pixels a side in place of what
    the encoder sees.
    """
    seed = config.seed + _HELD_OUT_SEED
    return render_faces(
        face, code_layout(face), count or config.held_out, size or config.image_size, seed, device, quiet=True
    )


def true_points(face: FaceModel, faces: RenderedFaces, chosen: Tensor, batch_size: int = 256) -> Tensor:
    """(N, P, 2) where the points of all faces are in their pictures."""
    parts = []
    for start in range(0, len(faces), batch_size):
        code = faces.rows(slice(start, start + batch_size)).code
        parts.append(screen_points(*face.pose(code), code.camera, chosen))
    return torch.cat(parts)


def undrawn_loss(
    layout: CodeLayout,
    network: PointEncoder,
    loss: EncoderLoss,
    source: SyntheticFaces,
    config: EncoderConfig,
) -> dict[str, Tensor]:
    """Losses of codes found from the points of faces that are never drawn, as noisy as points that are found in
    pictures.
    """
    codes, posed, camera = source.geometry(config.undrawn_faces)
    assert posed.landmarks is not None  # the layer has an embedding
    shapes, expressions, rest = codes.split([source.layer.num_shape, source.layer.num_expression, 9], dim=1)
    codes = torch.cat([shapes[:, : layout.shape], expressions[:, : layout.expression], rest], dim=1)
    points = screen_points(posed.vertices, posed.landmarks, camera, network.vertices)
    amount = _POINT_NOISE * torch.rand(len(points), 1, 1, generator=source.generator)
    noise = amount * torch.randn(points.shape, generator=source.generator)
    return loss.geometry(network.face_of_points(points + noise.to(points)), codes)


def moved(batch: RenderedFaces, most: int, generator: torch.Generator) -> RenderedFaces:
    """The batch with all pictures moved by the same few pixels, their outermost ones repeated, and the cameras and
    landmarks with them.
    """
    dx, dy = (torch.randint(-most, most + 1, (2,), generator=generator)).tolist()
    size = batch.images.shape[-1]
    padded = functional.pad(batch.images.float(), (most,) * 4, mode="replicate") if most else batch.images
    images = padded[:, :, most - dy : most - dy + size, most - dx : most - dx + size].to(batch.images.dtype)
    return batch.moved(images, 2 * dx / size, 2 * dy / size)


@dataclass(frozen=True)
class EncoderErrors:
    """Scores of an encoder on rendered faces, means over the faces unless said otherwise; see :func:`face_errors` and
    :func:`landmark_error`.

    Attributes:
        neutral_mm, expressive_mm: distance of vertices of the neutral face and of the face with its expression, after
            alignment.
        mean_face_mm, mean_face_expressive_mm: the same of the mean face.
        landmarks_percent: distance of landmarks in the picture, of its side.
        neutral_median_mm, expressive_median_mm, mean_face_median_mm: medians.
        light: mean absolute difference of the 27 numbers of light, each in units of its spread.
        mean_light: the same of the mean light.
        faces: number of faces.
        times_better: error of the mean face over that of the encoder, neutral faces.
    """

    neutral_mm: float
    expressive_mm: float
    mean_face_mm: float
    mean_face_expressive_mm: float
    landmarks_percent: float
    neutral_median_mm: float
    expressive_median_mm: float
    mean_face_median_mm: float
    light: float
    mean_light: float
    faces: int
    times_better: float


@torch.no_grad()
def evaluate(
    network: PointEncoder | ScaledEncoder,
    face: FaceModel,
    layout: CodeLayout,
    faces: RenderedFaces,
    batch_size: int = 64,
) -> EncoderErrors:
    """Scores of an encoder on rendered faces, in evaluation mode."""
    was_training = network.training
    network.eval()
    found: dict[str, list[Tensor]] = {}
    lights: list[Tensor] = []
    for start in range(0, len(faces), batch_size):
        batch = faces.rows(slice(start, start + batch_size))
        codes = network(batch.pictures())
        lights.append(codes[:, -layout.light :])
        code = layout.split(codes)
        values = face_errors(face, code, batch.code) | {"landmarks": landmark_error(face, code, batch.code)}
        for name, value in values.items():
            found.setdefault(name, []).append(value.cpu())
    network.train(was_training)
    whole = {name: torch.cat(value).double() for name, value in found.items()}
    scores = {
        f"{name}_{'percent' if name == 'landmarks' else 'mm'}": value.mean().item() for name, value in whole.items()
    }
    scores |= {f"{name}_median_mm": whole[name].median().item() for name in ("neutral", "expressive", "mean_face")}
    spread = network.code_scale[-layout.light :]
    for name, predicted in (("light", torch.cat(lights)), ("mean_light", network.code_mean[-layout.light :])):
        scores[name] = ((predicted - faces.codes[:, -layout.light :]) / spread).abs().mean().item()
    better = scores["mean_face_mm"] / max(scores["neutral_mm"], math.ulp(0))
    return EncoderErrors(**scores, faces=len(faces), times_better=better)
