"""The spiral decoder: decoding and a training step at FLAME's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import data
import torch
from measure import Case, Size
from torch import Tensor
from torch.nn.functional import elu

from face4d.dense.hierarchy import Hierarchy, build_hierarchy
from face4d.dense.s2d import S2DDecoder, s2d_loss, upsampling_matrix

BATCH = 16


class PlainDecoder(S2DDecoder):
    """The same network as its paper describes it: a dense upsampling matrix, then all spirals gathered, one linear
    layer, ELU.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__(hierarchy)
        self.up, self.spirals = [], []
        for level, step, coarse in list(zip(hierarchy.levels, hierarchy.steps, hierarchy.sizes[1:]))[::-1]:
            padded = torch.zeros(len(level.vertices) + 1, coarse + 1)
            padded[:-1, :-1] = torch.from_numpy(upsampling_matrix(step, coarse).toarray())
            padded[-1, -1] = 1
            self.up.append(padded)
            self.spirals.append(torch.from_numpy(level.spirals) % len(padded))  # -1 is the last row

    def convolve(self, number: int, x: Tensor, spirals: Tensor) -> Tensor:
        gathered = x[:, spirals.flatten()].view(len(x), *spirals.shape, -1).flatten(2)  # (B, V + 1, k C)
        convolution: Any = self.dconv[number]
        y = convolution.conv(gathered)
        return y if number == len(self.dconv) - 1 else elu(y)

    def forward(self, landmarks: Tensor) -> Tensor:
        x = self.fc_latent_dec(landmarks).view(len(landmarks), self.coarsest + 1, -1)
        for number, (up, spirals) in enumerate(zip(self.up, self.spirals)):
            x = self.convolve(number, up @ x, spirals)
            x = torch.cat([x[:, :-1], torch.zeros_like(x[:, -1:])], dim=1)  # the dummy vertex
        return self.convolve(len(self.dconv) - 1, x, self.spirals[-1])[:, :-1]


def _decoders(size: Size) -> tuple[S2DDecoder, PlainDecoder]:
    """Both on a head of 5023 vertices, or on one of 871."""
    hierarchy = build_hierarchy(*data.manifold_head(size.tiny))
    torch.manual_seed(27)
    ours, plain = S2DDecoder(hierarchy), PlainDecoder(hierarchy)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def s2d_decode(size: Size) -> Case:
    """Landmark displacements of one sequence to vertices."""
    ours, plain = _decoders(size)
    landmarks = torch.from_numpy(data.landmarks_in_motion(1, size.of(60, 4))[0]).flatten(1)

    def decode(decoder: S2DDecoder) -> None:
        with torch.inference_mode():
            for part in landmarks.split(BATCH):
                decoder(part)

    def decode_all() -> None:
        with torch.inference_mode():
            ours(landmarks)

    return Case(
        "frame",
        decode_all,
        lambda: decode(plain),
        len(landmarks),
        len(landmarks),
        "dense upsampling, gathered spirals, batches of 16",
        target=0.8e-3,
    )


def s2d_step(size: Size) -> Case:
    """Forward, loss, backward, Adam on one batch."""
    batch = size.of(BATCH, 2)
    landmarks = torch.from_numpy(data.landmarks_in_motion(1, batch)[0]).flatten(1)
    decoders = _decoders(size)
    generator = torch.Generator().manual_seed(27)
    target = 1e-3 * torch.randn(batch, decoders[0].num_vertices, 3, generator=generator)
    weights = torch.rand(target.shape[1], generator=generator)

    def stepper(decoder: S2DDecoder, fused: bool) -> Callable[[], None]:
        optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-3, weight_decay=5e-5, fused=fused)

        def step() -> None:
            optimizer.zero_grad()
            s2d_loss(decoder(landmarks), target, weights).backward()
            optimizer.step()

        return step

    ours, plain = stepper(decoders[0], True), stepper(decoders[1], False)
    return Case("step", ours, plain, 1, 1, "dense upsampling, gathered spirals, autograd, Adam")


def hierarchy_from_cache(size: Size) -> Case:
    """A template's hierarchy and the decoder on it, as a script starts."""
    import tempfile
    from pathlib import Path

    from face4d.dense.hierarchy import template_hierarchy

    vertices, faces = data.manifold_head(size.tiny)
    folder = Path(tempfile.mkdtemp())
    template_hierarchy(vertices, faces, cache=folder)
    return Case(
        "start",
        lambda: S2DDecoder(template_hierarchy(vertices, faces, cache=folder)),
        lambda: S2DDecoder(template_hierarchy(vertices, faces, cache=None)),
        1,
        1,
        "made anew",
        target=0.5,
    )
