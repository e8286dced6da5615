"""Encoders on disk: the published ``deca_model.tar``, and the checkpoints of ``Reconstruction/deca_train.py``."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from face4d.constants import FLAME_VERTICES
from face4d.deca.config import EncoderConfig
from face4d.deca.networks import IMAGE_SIZE, NUM_DETAIL, CodeLayout, DetailGenerator, Encoder, PointEncoder
from face4d.errors import InputError
from face4d.runtime.checkpoint import checked_record, is_checkpoint, load_weights, weights, without_weights
from face4d.runtime.fields import METRICS, Check, configuration, list_of, number, record, text
from face4d.runtime.torch_file import read_torch_file

log = logging.getLogger(__name__)

CHECKPOINT_KIND = "face encoder"
CHECKPOINT_FIELDS: dict[str, Check] = {
    "config": configuration(EncoderConfig),
    "layout": configuration(CodeLayout),
    "face_fingerprint": list_of(number(), 1, 10_000),
    "source": record({"face_model": text}),
    "model": weights,
    "metrics": METRICS,
}
PUBLISHED_FILE = "models/deca_model.tar"
OWN_FILE = "models/deca_demo.pt"
PUBLISHED_MODEL = "models/flame"
_GROUPS = ("E_flame", "E_detail", "D_detail")


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder and what its numbers mean.

    Attributes:
        path: the file.
        coarse: pictures (B, 3, ``image_size``, ``image_size``) to codes (B, layout.total).
        layout: of the codes.
        image_size: pixels.
        face_model: the face it was trained for, ``demo`` or a folder.
        fingerprint: of that model, None for the published weights.
        detail_encoder, detail_generator: of the published weights, else None.
        metrics: of the training, where it was ours.
    """

    path: Path
    coarse: nn.Module
    layout: CodeLayout
    image_size: int
    face_model: str
    fingerprint: tuple[float, ...] | None = None
    detail_encoder: nn.Module | None = None
    detail_generator: nn.Module | None = None
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def num_vertices(self) -> int:
        """V of the faces it makes."""
        return FLAME_VERTICES if self.fingerprint is None else int(self.fingerprint[0])


def find_checkpoint(path: str | Path | None) -> Path:
    """The file asked for, else the published weights if they are there, else the encoder trained on the demo head.

    Raises:
        InputError: none is there; says how to get one.
    """
    places = [Path(path)] if path is not None else [Path(PUBLISHED_FILE), Path(OWN_FILE)]
    for place in places:
        if place.is_file():
            return place
    raise InputError(
        places[0],
        f"encoder weights: deca_model.tar of DECA (https://github.com/yfeng95/DECA, to {PUBLISHED_FILE}, "
        "licence there) "
        f"or an encoder of one's own ('python Reconstruction/deca_train.py' writes {OWN_FILE})",
        "no such file",
    )


def load_encoder(path: str | Path | None = None) -> LoadedEncoder:
    """Read either kind of file; nothing in it is run.

    Raises:
        InputError: no such file (says where it comes from), a damaged or another one, or entries that are missing or of
            other shapes.
    """
    path = find_checkpoint(path)
    content = read_torch_file(path, "encoder weights (deca_model.tar or a checkpoint of deca_train.py)")
    if isinstance(content, dict) and "E_flame" in content and not is_checkpoint(content):
        return _published(path, content)
    return _own(path, content)


def _published(path: Path, content: dict[str, Any]) -> LoadedEncoder:
    missing = [group for group in _GROUPS if not isinstance(content.get(group), dict)]
    if missing == ["E_flame"] or "E_flame" in missing:
        raise InputError(path, f"weights by group: {', '.join(_GROUPS)}", f"no {', '.join(missing)}")
    layout = CodeLayout()
    with without_weights():
        coarse, fine, generator = Encoder(layout.total), Encoder(NUM_DETAIL), DetailGenerator()
    load_weights(coarse, content["E_flame"], path, "E_flame", others=True)
    detail_encoder = detail_generator = None
    if missing:
        log.warning("%s: no %s, so there will be no fine displacement", path, " and ".join(missing))
    else:
        detail_encoder, detail_generator = fine, generator
        load_weights(detail_encoder, content["E_detail"], path, "E_detail", others=True)
        load_weights(detail_generator, content["D_detail"], path, "D_detail", others=True)
    unused = [name for name, value in content.items() if name not in _GROUPS and isinstance(value, dict) and value]
    if unused:
        log.info("%s: %s not used", path, ", ".join(unused))
    return LoadedEncoder(path, coarse, layout, IMAGE_SIZE, PUBLISHED_MODEL, None, detail_encoder, detail_generator)


def _own(path: Path, content: Any) -> LoadedEncoder:
    content = checked_record(path, content, CHECKPOINT_KIND, CHECKPOINT_FIELDS)
    config, layout = EncoderConfig(**content["config"]), CodeLayout(**content["layout"])
    with without_weights():
        if config.backbone == "small":
            encoder: nn.Module = PointEncoder(layout, config.hidden)
        else:
            encoder = Encoder(layout.total, config.backbone, config.hidden)
            encoder.register_buffer("code_mean", torch.zeros(layout.total))
            encoder.register_buffer("code_scale", torch.ones(layout.total))
    load_weights(encoder, content["model"], path)
    if isinstance(encoder, Encoder):
        fold_scale(encoder)
    face, fingerprint = content["source"]["face_model"], tuple(content["face_fingerprint"])
    return LoadedEncoder(path, encoder, layout, config.image_size, face, fingerprint, metrics=content["metrics"])


@torch.no_grad()
def fold_scale(encoder: Encoder) -> None:
    """Make a plain :class:`Encoder` of one whose output is multiplied by ``code_scale`` and moved by ``code_mean``, two
    buffers.
    """
    last, scale = encoder.layers[2], encoder.get_buffer("code_scale")
    assert isinstance(last, nn.Linear)
    last.weight = nn.Parameter(last.weight * scale[:, None])
    last.bias = nn.Parameter(last.bias * scale + encoder.get_buffer("code_mean"))
    del encoder.code_mean, encoder.code_scale
