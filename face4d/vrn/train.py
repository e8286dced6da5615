"""Training of the volume network on a volume set: one loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from face4d.errors import InputError
from face4d.runtime.device import autocast, seed_everything
from face4d.runtime.training import Run, run_epochs, set_learning_rate
from face4d.synthetic.augmentation import disguise
from face4d.vrn.config import CHECKPOINT_KIND, VolumeConfig
from face4d.vrn.network import UPSAMPLING, VolumeNetwork, volume_loss
from face4d.vrn.volume_set import VolumeSample, VolumeSet
from face4d.vrn.voxels import VolumeGrid, iou, nme, surface, unpack, visible

_VALIDATED = 24  # test samples looked at in each validation
_PRIOR_SAMPLES = 100
_LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6)  # at which the mean volume is cut; its best one counts


def train(data: VolumeSet, config: VolumeConfig, run: Run) -> dict[str, Any]:
    """Train a network; :func:`face4d.runtime.training.run_epochs` says what is written.

    Loss: binary cross-entropy per voxel (Jackson et al. 2017, eq. 1), of ``config.phases`` of 16 interleaved parts of
    the volume per step.

    Returns:
        What metrics.json holds: ``iou`` and ``nme`` of the test samples, the same of the mean training volume, epoch,
            seconds.

    Raises:
        InputError: a set without test samples, or with fewer training samples than a batch.
    """
    if len(data.training) < config.batch_size or not data.testing:
        wanted = f"at least {config.batch_size} training samples and one for testing"
        raise InputError(data.path, wanted, f"{len(data.training)} and {len(data.testing)}")
    device = run.device
    generator = seed_everything(config.seed)
    network = VolumeNetwork(config.width)
    network.set_prior(torch.from_numpy(occupancy(data)))
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=config.lr)
    num_batches = len(data.training) // config.batch_size

    def train_epoch(epoch: int) -> dict[str, float]:
        network.train()
        step, total = (epoch - 1) * num_batches, torch.zeros((), device=device)
        order = torch.randperm(len(data.training), generator=generator)
        for chosen in order[: num_batches * config.batch_size].split(config.batch_size):
            step += 1
            set_learning_rate(optimizer, config, step / (config.epochs * num_batches))
            samples = [data.read("training", data.training[index]) for index in chosen.tolist()]
            pictures, bits = vary(samples, config, generator)
            phases = torch.randperm(UPSAMPLING**2, generator=generator)[: config.phases].tolist()
            with autocast(config, device):
                coarse = network.coarse_logits(pictures.to(device))  # (B, 200, 48, 48)
            parts = (phase_of(bits, phase, data.grid).to(device) for phase in phases)
            loss = sum(
                volume_loss(coarse.float(), part, *divmod(phase, UPSAMPLING)) for phase, part in zip(phases, parts)
            ) / len(phases)
            optimizer.zero_grad()
            loss.backward()
            if config.grad_clip:
                nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
            optimizer.step()
            total += loss.detach()
        network.eval()
        return {"loss/train": total.item() / num_batches}

    def scores() -> tuple[dict[str, float], tuple[float, ...]]:
        found = np.mean(
            [iou(predict(network, sample), sample.volume(data.grid)) for sample in data.samples("testing", _VALIDATED)]
        )
        return {"iou/test": float(found)}, (-float(found),)

    return run_epochs(
        network,
        optimizer,
        generator,
        config,
        run,
        kind=CHECKPOINT_KIND,
        identity={"grid": vars(data.grid), "data_digest": data.digest},
        record={"source": {"data": str(data.path), **data.source}},
        train_epoch=train_epoch,
        validate=scores,
        final_scores=lambda kept: evaluate(kept.eval(), data),
    )


def occupancy(data: VolumeSet) -> np.ndarray:
    """(depth,) float32: how much of each layer is filled, over the first training samples."""
    return np.mean(
        [sample.volume(data.grid).mean((1, 2)) for sample in data.samples("training", _PRIOR_SAMPLES)],
        axis=0,
        dtype=np.float32,
    )


def vary(samples: list[VolumeSample], config: VolumeConfig, generator: torch.Generator) -> tuple[Tensor, np.ndarray]:
    """A batch for training: pictures (B, 3, S, S) and volume bits (B, ceil(D / 8), S, S), half of them mirrored, some
    disguised.
    """
    images = torch.stack([torch.from_numpy(sample.image) for sample in samples]).permute(0, 3, 1, 2) / 255.0
    bits = np.stack([sample.bits for sample in samples])
    images = disguise(images, config.disguised, generator)
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
    return (network(picture)[0] > level).cpu().numpy()


def evaluate(network: VolumeNetwork, data: VolumeSet) -> dict[str, Any]:
    """Scores on the test samples, means over samples, beside those of the mean volume.

    ``iou``: intersection over union of the filled volumes. ``nme``: mean distance of the true surface that the picture
    shows to the nearest vertex of the surface found, over the distance of the outer eye corners. ``mean_volume_*``: of
    the mean training volume, which knows how a crop is framed and nothing of the picture: its IoU at the level that is
    best for the test samples, its NME at 0.5. ``iou_times_better``: (1 - IoU) of the mean volume over that of the
    network; ``nme_times_better`` likewise.
    """
    mean = sum(
        (sample.volume(data.grid).astype(np.float32) for sample in data.samples("training")), start=np.float32(0)
    ) / len(data.training)
    flats = [mean > level for level in _LEVELS]
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
    scores = {"test_samples": len(ious), "iou": float(np.mean(ious)), "iou_worst": float(np.min(ious))}
    scores |= {"mean_volume_iou": float(np.mean(flat_ious, axis=0)[best]), "mean_volume_level": _LEVELS[best]}
    scores |= dict(zip(("nme", "mean_volume_nme"), map(float, np.mean(nmes, axis=0))))
    scores["iou_times_better"] = (1 - scores["mean_volume_iou"]) / max(1 - scores["iou"], 1e-12)
    scores["nme_times_better"] = scores["mean_volume_nme"] / max(scores["nme"], 1e-12)
    return scores
