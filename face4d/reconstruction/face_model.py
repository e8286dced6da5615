"""The face that an encoder's numbers describe: a FLAME-format model with its texture layout, the demo head's or one from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from face4d.errors import InputError
from face4d.flame.layer import FlameLayer
from face4d.flame.model import FlameModel, find_model, load_flame_model
from face4d.landmarks import LandmarkEmbedding, load_flame_embedding
from face4d.reconstruction.encoder import CodeLayout, FaceCode
from face4d.reconstruction.uv import UvLayout, find_layout

DEMO = "demo"  # the name of the built-in head, in place of a folder


@dataclass(frozen=True)
class FaceModel:
    """A face model ready for use.

    Attributes:
        source: ``demo`` or the folder it came from.
        model: its arrays.
        layer: the same as a layer with landmarks.
        uv: its texture layout.
        fingerprint: numbers that tell models apart; the codes of an encoder hold for one model only.
        folder: where its files are, None of the demo head.
    """

    source: str
    model: FlameModel
    layer: FlameLayer
    uv: UvLayout
    fingerprint: tuple[float, ...]
    folder: Path | None = None

    def is_model_of(self, fingerprint: Sequence[float]) -> bool:
        """Whether a fingerprint is this model's, up to the rounding of other machines."""
        return len(fingerprint) == len(self.fingerprint) and np.allclose(fingerprint, self.fingerprint, rtol=1e-3, atol=1e-5)

    def pose(self, code: FaceCode) -> tuple[Tensor, Tensor]:
        """Vertices (B, V, 3) and landmarks (B, 68, 3), metres, as seen in the photo: expression, jaw and head pose."""
        out = self.layer(shape=code.shape, expression=code.expression, global_pose=code.pose[:, :3], jaw_pose=code.pose[:, 3:])
        return out.vertices, out.landmarks

    def neutral(self, shape: Tensor) -> Tensor:
        """Vertices (B, V, 3) metres of identities (B, S): no expression, mouth closed, looking ahead."""
        return self.layer(shape=shape).vertices

    def unturned(self, code: FaceCode) -> Tensor:
        """Vertices (B, V, 3) metres with expression and jaw, the head looking ahead."""
        return self.layer(shape=code.shape, expression=code.expression, jaw_pose=code.pose[:, 3:]).vertices


def load_face_model(
    source: str | Path, layout: CodeLayout = CodeLayout(), device: torch.device | str = "cpu", contour: str = "geometry"
) -> FaceModel:
    """The model of ``source``: ``demo``, a folder such as ``models/flame``, or one model file in such a folder.

    ``contour`` says which jaw line points a turned head has, see :class:`~face4d.flame.layer.FlameLayer`.

    Raises:
        InputError: a missing file (says where it comes from) or one of other content.
    """
    if str(source) == DEMO:
        from face4d.datasets.demo.flame import demo_flame_model

        model, embedding, folder = demo_flame_model(), _demo_embedding(), None
    else:
        if not Path(source).exists():
            expected = "a face model: demo, or a folder with FLAME (https://flame.is.tue.mpg.de, after registration; --flame DIR names it)"
            raise InputError(source, expected, "nothing of that name")
        file = find_model(source)
        model, embedding, folder = load_flame_model(file), load_flame_embedding(file.parent), file.parent
    return build_face_model(str(source), model, embedding, folder, layout, device, contour)


def build_face_model(
    source: str,
    model: FlameModel,
    embedding: LandmarkEmbedding,
    folder: Path | None = None,
    layout: CodeLayout = CodeLayout(),
    device: torch.device | str = "cpu",
    contour: str = "geometry",
) -> FaceModel:
    """A :class:`FaceModel` of arrays; ``folder`` may hold a texture layout."""
    layer = FlameLayer(model, embedding, num_shape=layout.shape, num_expression=layout.expression, contour=contour).to(device)
    uv = find_layout(folder, model.template, model.faces)
    return FaceModel(source, model, layer, uv, _fingerprint(model), folder)


def _fingerprint(model: FlameModel) -> tuple[float, ...]:
    """Numbers that differ between models: V, and the template and every direction weighted over the vertices."""
    weight = np.cos(np.arange(3 * model.num_vertices)).reshape(-1, 3)
    parts = (model.template[..., None], model.shape_directions, model.expression_directions)
    sums = [np.einsum("vc,vck->k", weight, part.astype(np.float64)) for part in parts]
    return float(model.num_vertices), *np.concatenate(sums).round(9).tolist()


@lru_cache(maxsize=1)
def _demo_embedding() -> LandmarkEmbedding:
    from face4d.datasets.demo.embedding import dynamic_embedding, static_embedding
    from face4d.datasets.demo.head import demo_head

    head = demo_head()
    static_face, static_bary = static_embedding(head)
    contour_face, contour_bary = dynamic_embedding(head)  # row 0: a face that looks ahead
    return LandmarkEmbedding(
        face_idx=np.concatenate([contour_face[0], static_face]),
        bary=np.concatenate([contour_bary[0], static_bary]),
        faces=head.faces,
        num_vertices=len(head.mean),
        contour_face_idx=contour_face,
        contour_bary=contour_bary,
    )
