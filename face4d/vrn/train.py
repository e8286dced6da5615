"""What trains the volume network on a volume set: batches, the parts of a volume, scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from face4d.synthetic.augmentation import augment
from face4d.vrn.config import VolumeConfig
from face4d.vrn.network import UPSAMPLING, VolumeNetwork
from face4d.vrn.volume_set import VolumeSample, VolumeSet
from face4d.vrn.voxels import VolumeGrid, iou, nme, surface, unpack, visible

VALIDATED = 24  # test samples looked at in each validation
_PRIOR_SAMPLES = 100
_LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6)  # at which the mean volume is cut; its best one counts


def occupancy(data: VolumeSet) -> np.ndarray:
    """(depth,) float32: how much of each layer is filled, over the first training samples."""
    shares = [sample.volume(data.grid).mean((1, 2)) for sample in data.samples("training", _PRIOR_SAMPLES)]
    return np.asarray(np.mean(shares, axis=0, dtype=np.float32))


def vary(samples: list[VolumeSample], config: VolumeConfig, generator: torch.Generator) -> tuple[Tensor, np.ndarray]:
    """A batch for training: pictures (B, 3, S, S) and volume bits (B, ceil(D / 8), S, S), half of them mirrored, some
    augmented.
    """
    images = torch.stack([torch.from_numpy(sample.image) for sample in samples]).permute(0, 3, 1, 2) / 255.0
    bits = np.stack([sample.bits for sample in samples])
    images = augment(images, config.augmented, generator)
    if config.mirror:
        turned = torch.rand(len(samples), generator=generator) < 0.5
        images = torch.where(turned[:, None, None, None], images.flip(-1), images)
        bits = np.where(turned.numpy()[:, None, None, None], bits[..., ::-1], bits)
    return images.contiguous(memory_format=torch.channels_last), bits


def phase_of(bits: np.ndarray, phase: int, grid: VolumeGrid) -> Tensor:
    """One of the 16 phases (B, D, S / 4, S / 4) float32 of packed volumes, as :func:`~face4d.vrn.network.volume_loss`
    wants it.
    """
    row, column = divmod(phase, UPSAMPLING)
    part = bits[:, :, row::UPSAMPLING, column::UPSAMPLING]
    return torch.from_numpy(np.stack([unpack(one, grid.depth) for one in part])).float()


@torch.no_grad()
def predict(network: VolumeNetwork, sample: VolumeSample, level: float = 0.5) -> np.ndarray:
    """The volume (D, S, S) bool that a network in evaluation mode finds in a sample's picture."""
    device = next(network.parameters()).device
    picture = torch.from_numpy(sample.image).to(device).permute(2, 0, 1)[None] / 255.0
    return np.asarray((network(picture)[0] > level).cpu().numpy())


def mean_iou(network: VolumeNetwork, data: VolumeSet) -> float:
    """Mean intersection over union on the first :data:`VALIDATED` test samples, of a network in evaluation mode."""
    return float(
        np.mean(
            [iou(predict(network, sample), sample.volume(data.grid)) for sample in data.samples("testing", VALIDATED)]
        )
    )


@dataclass(frozen=True)
class VolumeScores:
    """Scores of a volume network, means over the test samples, beside those of the mean training volume.

    The mean volume knows how a crop is framed and nothing of the picture: its IoU is that of the level which is best
    for the test samples, its NME that at 0.5.

    Attributes:
        samples: number of test samples.
        iou, iou_worst: intersection over union of the filled volumes, 0..1; that of the worst sample.
        mean_volume_iou, mean_volume_level: of the mean volume, and its level.
        nme: mean distance of the true surface that the picture shows to the nearest vertex of the surface found, over
            the distance of the outer eye corners.
        mean_volume_nme: the same of the mean volume.
        iou_times_better: (1 - IoU) of the mean volume over that of the network.
        nme_times_better: likewise.
    """

    samples: int
    iou: float
    iou_worst: float
    mean_volume_iou: float
    mean_volume_level: float
    nme: float
    mean_volume_nme: float
    iou_times_better: float
    nme_times_better: float


def evaluate(network: VolumeNetwork, data: VolumeSet) -> VolumeScores:
    """Scores of a network in evaluation mode on the test samples."""
    mean = sum(
        (sample.volume(data.grid).astype(np.float32) for sample in data.samples("training")), start=np.float32(0)
    ) / len(data.training)
    flats = [np.asarray(mean > level) for level in _LEVELS]
    ious, flat_ious, nmes = [], [], []
    for sample in data.samples("testing"):
        true, found = sample.volume(data.grid), predict(network, sample)
        ious.append(iou(found, true))
        flat_ious.append([iou(flat, true) for flat in flats])
        shown = surface(true, data.grid)[0]
        shown = shown[visible(shown, true, data.grid)]
        nmes.append(
            [
                nme(surface(volume, data.grid)[0], shown, sample.landmarks)
                for volume in (found, flats[_LEVELS.index(0.5)])
            ]
        )
    best = np.mean(flat_ious, axis=0).argmax()
    own, flat = float(np.mean(ious)), float(np.mean(flat_ious, axis=0)[best])
    own_nme, flat_nme = map(float, np.mean(nmes, axis=0))
    return VolumeScores(
        samples=len(ious),
        iou=own,
        iou_worst=float(np.min(ious)),
        mean_volume_iou=flat,
        mean_volume_level=_LEVELS[best],
        nme=own_nme,
        mean_volume_nme=flat_nme,
        iou_times_better=(1 - flat) / max(1 - own, 1e-12),
        nme_times_better=flat_nme / max(own_nme, 1e-12),
    )
