"""Training of generators with more than one answer to a label: what they are scored on, and the scores of draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from face4d.constants import MM_PER_METRE
from face4d.datasets.landmark_set import LandmarkSplit, tensors
from face4d.errors import InputError
from face4d.runtime import distributed

VALIDATION_SAMPLES = 10


@dataclass(frozen=True)
class DrawErrors:
    """Distances of drawn to real motions, over all sequences.

    Attributes:
        mse: mean square of coordinates of one draw, square metres.
        l1: mean absolute coordinate of one draw, metres.
        mm, mm_std: mean Euclidean distance of landmarks of one draw, and standard deviation over all single distances,
            millimetres.
        mm_best: mean distance of the nearest of ten draws, millimetres.
        multimodality_mm: mean distance between two draws, millimetres.
    """

    mse: float
    l1: float
    mm: float
    mm_std: float
    mm_best: float
    multimodality_mm: float


def require_one_process(what: str) -> None:
    """Raise an :class:`InputError` if several processes train ``what``."""
    if distributed.world_size() > 1:
        raise InputError("torchrun", f"one process with {what}", str(distributed.world_size()))


def scored_sets(
    split: LandmarkSplit, select: str, device: torch.device
) -> tuple[str, dict[str, tuple[Tensor, Tensor]]]:
    """The sets that draws are scored on, displacements (N, T + 1, L, 3) in metres and class indices (N,): ``test``, or
    ``train`` where there is no test set, and ``validation`` if it chooses the weights. The first one's name comes
    first.
    """
    name, sequences = ("test", split.test) if split.test else ("train", split.train)
    scored = {name: tensors(sequences, split.labels, device)}
    if select == "validation":
        scored["validation"] = tensors(split.held_out, split.labels, device)
    return name, scored


@torch.no_grad()
def draw_errors(network: nn.Module, displacements: Tensor, labels: Tensor, seed: int) -> DrawErrors:
    """Errors of drawn motions; draws from its own random numbers.

    Args:
        displacements: (N, T+1, L, 3), metres.
        labels: (N,) class indices.
    """
    network.eval()
    random = torch.Generator().manual_seed(seed)
    frames = displacements.shape[1] - 1
    # (10, N, T, L, 3)
    drawn = torch.stack([network(displacements[:, 0], labels, frames, random) for _ in range(VALIDATION_SAMPLES)])
    network.train()
    difference = (drawn - displacements[:, 1:]).double()
    distance = difference.norm(dim=4) * MM_PER_METRE  # (10, N, T, L)
    other = (drawn - drawn.roll(1, 0)).norm(dim=4) * MM_PER_METRE
    return DrawErrors(
        mse=difference[0].square().mean().item(),
        l1=difference[0].abs().mean().item(),
        mm=distance[0].mean().item(),
        mm_std=distance[0].std(correction=0).item(),
        mm_best=distance.mean((2, 3)).amin(0).mean().item(),
        multimodality_mm=other.mean().item(),
    )
