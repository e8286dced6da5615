"""Training of the coarse encoder on rendered faces, for which everything is known."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from face4d.deca.checkpoints import CHECKPOINT_KIND
from face4d.deca.config import EncoderConfig
from face4d.deca.face_model import FaceModel
from face4d.deca.networks import CodeLayout, Encoder, PointEncoder, spread_vertices
from face4d.deca.rendered_faces import RenderedFaces, face_errors, landmark_error, photometric_difference, render_faces
from face4d.render.lit import to_screen
from face4d.runtime.device import autocast, seed_everything
from face4d.runtime.training import Run, run_epochs, set_learning_rate
from face4d.synthetic.augmentation import disguise
from face4d.synthetic.faces import SyntheticFaces

log = logging.getLogger(__name__)

_HELD_OUT_SEED = 1_000_003  # added to the seed: held-out faces are never training faces
_UNDRAWN_SEED = 2_000_003
_EDGE = 0.9  # half pictures
_POINT_NOISE = 0.03  # largest standard deviation of the points of faces that are not drawn, half pictures
# of all steps; the last ones learn details from pictures as they are (as Ge et al., "YOLOX", 2021, end without mosaics)
_DISGUISED_UNTIL = 0.6
_SHIFT = 4  # pixels of 112 by which pictures are moved, either way


class ScaledEncoder(Encoder):
    """An :class:`Encoder` whose output is brought from unit spread to that of the codes, so that all of them are
    learned at one pace.
    """

    def __init__(self, outputs: int, backbone: str, hidden: int) -> None:
        super().__init__(outputs, backbone, hidden)
        self.register_buffer("code_mean", torch.zeros(outputs))
        self.register_buffer("code_scale", torch.ones(outputs))

    def fit_scale(self, codes: Tensor, points: Tensor | None = None) -> None:
        """Take mean and spread from the training codes (N, outputs); points are not used."""
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

    def moving(directions, most: int) -> int:
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
        if points is not None:
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


def screen_points(face: FaceModel, vertices: Tensor, landmarks: Tensor, camera: Tensor, chosen: Tensor) -> Tensor:
    """(B, P, 2) where the 68 landmarks and the chosen vertices of posed faces are in their pictures; those beyond the
    edge lie on it.

    The edge is a little inside: no centre of a map can lie farther out than the middle of its last cell.
    """
    return to_screen(torch.cat([landmarks, vertices[:, chosen]], dim=1), camera)[..., :2].clamp(-_EDGE, _EDGE)


def by_rows(directions: np.ndarray, count: int) -> Tensor:
    """(count, 3 V): the first directions of (V, 3, K), flattened."""
    return torch.as_tensor(directions[:, :, :count]).float().permute(2, 0, 1).flatten(1).contiguous()


def train(face: FaceModel, config: EncoderConfig, run: Run) -> dict[str, Any]:
    """Train an encoder; :func:`face4d.runtime.training.run_epochs` says what is written.

    The faces are rendered first, once, and kept as bytes: 8,000 pictures of 112 x 112 are 300 MB.

    Returns:
        What metrics.json holds: mean vertex errors in mm of the held-out faces and of the mean face, medians, landmark
            error, seconds.
    """
    layout, device = code_layout(face), run.device
    begun = time.monotonic()
    faces = render_faces(face, layout, config.faces, config.image_size, config.seed, device, quiet=run.quiet)
    held_out = render_held_out(face, config, device)
    log.info("%d + %d faces rendered in %.0f s", len(faces), len(held_out), time.monotonic() - begun)

    generator = seed_everything(config.seed)
    network = build_network(layout, config).to(device, memory_format=torch.channels_last)
    points = None
    if isinstance(network, PointEncoder):
        network.vertices.copy_(torch.as_tensor(face_vertices(face)))
        points = true_points(face, faces, network.vertices)
    network.fit_scale(faces.codes, points)
    undrawn = SyntheticFaces(face.layer, config.seed + _UNDRAWN_SEED, size=8)
    loss = EncoderLoss(face, config, layout, network.code_scale)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=1e-2)
    num_batches = len(faces) // config.batch_size or 1

    def train_epoch(epoch: int) -> dict[str, float]:
        network.train()
        step, sums = (epoch - 1) * num_batches, {}
        order = torch.randperm(len(faces), generator=generator).to(device)
        for chosen in order[: num_batches * config.batch_size].split(config.batch_size):
            step += 1
            set_learning_rate(optimizer, config, step / (config.epochs * num_batches))
            batch = moved(faces.rows(chosen), config.image_size * _SHIFT // 112, generator)
            wanted = None if points is None else true_points(face, batch, network.vertices)
            disguised = config.disguised if step <= _DISGUISED_UNTIL * config.epochs * num_batches else 0.0
            pictures = disguise(batch.pictures(), disguised, generator)  # (B, 3, S, S)
            noise = (
                torch.randn(pictures.shape, generator=generator) * config.noise * torch.rand((), generator=generator)
            )
            with autocast(config, device):
                codes, found = network.codes_and_points(
                    (pictures + noise.to(device)).contiguous(memory_format=torch.channels_last)
                )
            value, parts = loss(codes, batch, found, wanted)
            if points is not None:
                # of every step's own seed, so that a resumed run draws the same
                undrawn.generator.manual_seed(config.seed + _UNDRAWN_SEED + step)
                apart = loss.weighted(undrawn_loss(face, layout, network, loss, undrawn, config))
                # Codes are learned from the mean over all faces of the step: the few that are drawn would drown the
                # many with their noise.
                share = len(chosen) / (len(chosen) + config.undrawn_faces)
                told = loss.weighted({name: parts[name] for name in ("code", "vertices", "landmarks")})
                value, parts["undrawn"] = value + (1 - share) * (apart - told), apart
            optimizer.zero_grad()
            value.backward()
            if config.grad_clip:
                nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
            optimizer.step()
            for name, part in {"train": value, **parts}.items():
                sums[name] = sums.get(name, 0.0) + part.detach()
        network.eval()
        return {f"loss/{name}": total.item() / num_batches for name, total in sums.items()}

    def scores() -> tuple[dict[str, float], tuple[float, ...]]:
        found = evaluate(network, face, layout, held_out)
        return {
            f"test/{name}": found[name] for name in ("neutral_mm", "expressive_mm", "landmarks_percent", "light")
        }, (found["neutral_mm"],)

    identity = {
        "layout": layout.as_dict(),
        "face_fingerprint": list(face.fingerprint),
        "data_digest": f"{faces.digest()} {held_out.digest()}",
    }
    return run_epochs(
        network,
        optimizer,
        generator,
        config,
        run,
        kind=CHECKPOINT_KIND,
        identity=identity,
        record={"source": {"face_model": face.source}},
        train_epoch=train_epoch,
        validate=scores,
        final_scores=lambda kept: evaluate(kept.eval(), face, layout, held_out),
    )


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
        parts.append(screen_points(face, *face.pose(code), code.camera, chosen))
    return torch.cat(parts)


def undrawn_loss(
    face: FaceModel,
    layout: CodeLayout,
    network: PointEncoder,
    loss: EncoderLoss,
    source: SyntheticFaces,
    config: EncoderConfig,
) -> dict[str, Tensor]:
    """Losses of codes told from the points of faces that are never drawn, as noisy as points that are found in
    pictures.
    """
    codes, posed, camera = source.geometry(config.undrawn_faces)
    shapes, expressions, rest = codes.split([source.layer.num_shape, source.layer.num_expression, 9], dim=1)
    codes = torch.cat([shapes[:, : layout.shape], expressions[:, : layout.expression], rest], dim=1)
    points = screen_points(face, posed.vertices, posed.landmarks, camera, network.vertices)
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


@torch.no_grad()
def evaluate(
    network: nn.Module, face: FaceModel, layout: CodeLayout, faces: RenderedFaces, batch_size: int = 64
) -> dict[str, Any]:
    """Scores of an encoder in eval mode on rendered faces; see :func:`face_errors` and :func:`landmark_error`.

    ``light``: mean absolute difference of the 27 numbers, each in units of its spread; ``mean_light``: the same of the
    mean light.
    """
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
    for name, told in (("light", torch.cat(lights)), ("mean_light", network.code_mean[-layout.light :])):
        scores[name] = ((told - faces.codes[:, -layout.light :]) / spread).abs().mean().item()
    return scores | {
        "faces": len(faces),
        "times_better": scores["mean_face_mm"] / max(scores["neutral_mm"], math.ulp(0)),
    }
