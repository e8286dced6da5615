"""What training sequences say about the motions of their labels, in closed form: what the LSTM generator learns.

A sequence s of a label is taken as

    x_s(t) = c(t) x_s(0) + b_s v(t) + deviation,    v = (1 - w) mean + w warp(q) aligned mean,

with c the share of the start frame that stays, b the strength of its subject, and v a motion of the label whose apex
comes at frame q. The aligned mean is that of the label's sequences with their apexes moved to one frame. The label does
not tell q; all training sequences say when it may be, as far as labels do not differ in that. The weight w is the one
with which the means of the other sequences of a label, given q, predict a sequence best. Where it is 0, the mean of v
is the label's mean trajectory; where it is 1, it is the label's displacement at the apex times of all training
sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from scipy.special import fdtrc
from torch import Tensor

from face4d.datasets.augmentation import apex_frames, move_apex

ROUNDS = 10  # of alternating least squares, which settle in three or four
SIGNIFICANCE = 0.01  # labels have apex times of their own if chance makes such differences more rarely
NARROWEST = 0.1  # frames, of a kernel: nothing is smoothed
WEAKEST = 0.1  # strength of a subject before division by the mean
NOTHING = 1e-12  # square metres; a smaller sum of squares is of what does not move


@dataclass(frozen=True)
class LabelMotions:
    """The motions of every label, by the frame of their apex.

    Attributes:
        mean: (C, T + 1, 3L) metres, over the apexes to be expected.
        rest: (C, T + 1, 3L) metres, what does not move with the apex: (1 - w) mean.
        moving: (C, T + 1, 3L) metres, what does, with the apex at frame ``apex``: w aligned mean.
        apex: () frame.
        chances: (C, T + 1) that the apex of a label comes at a frame, smooth; rows add up to 1.
        stays: (T + 1,) share of the start frame in each frame.
        starts: (N, L, 3) start frames of the training sequences, metres.
        members: (C, N) 1 where a sequence is of a label, else 0.
        timing: () w.
    """

    mean: Tensor
    rest: Tensor
    moving: Tensor
    apex: Tensor
    chances: Tensor
    stays: Tensor
    starts: Tensor
    members: Tensor
    timing: Tensor

    def to(self, device: torch.device) -> LabelMotions:
        """The same on a device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def with_apex(self, labels: Tensor, apexes: Tensor) -> Tensor:
        """Motions (B, T + 1, 3L), metres, of labels (B,) with their apex at frames (B,) in 1..T-1."""
        return self.rest[labels] + move_apex(self.moving[labels], self.apex, apexes)

    def draw(self, labels: Tensor, apexes: int, generator: torch.Generator, rows: slice = slice(None)) -> Tensor:
        """Motions of labels, each from the start frame of one of its training sequences.

        Args:
            labels: (B,) class indices.
            apexes: M, how many frames for the apex are drawn, one from each M-th of their distribution (systematic
                sampling: Cochran, Sampling Techniques, 1977, chapter 8); 0 = the mean over all that are to be expected.
            generator: on the CPU, of the start frames and apexes.
            rows: labels wanted; the random numbers are drawn for all of them, so a part is the same as that part of
                the whole.

        Returns:
            (M, B, T + 1, L, 3) metres, M = 1 for the mean, B the number of ``rows``; frame 0 is the start frame.
        """
        own, of_label = labels[rows], labels.cpu()
        sequences = torch.multinomial(self.members[of_label].cpu(), 1, generator=generator)[rows, 0]  # (B,)
        starts = self.starts[sequences.to(labels.device)]  # (B, L, 3)
        if apexes:
            passed = self.chances[of_label].cpu().cumsum(1)  # (B, T + 1)
            levels = (torch.arange(apexes) + torch.rand(len(labels), 1, generator=generator)) / apexes  # (B, M)
            drawn = torch.searchsorted(passed, levels * passed[:, -1:])[rows].T  # (M, B)
            motions = self.with_apex(own.repeat(apexes), drawn.flatten().to(labels.device)).unflatten(0, drawn.shape)
        else:
            motions = self.mean[own][None]
        return (motions + self.stays[:, None] * starts.flatten(1)[:, None]).unflatten(3, starts.shape[1:])


def fit_label_motions(displacements: Tensor, labels: Tensor, subjects: Sequence[str]) -> LabelMotions:
    """The motions of the labels of training sequences.

    Args:
        displacements: (N, T + 1, L, 3) metres, on the CPU.
        labels: (N,) class indices; each of 0..C-1 has a sequence.
        subjects: of the sequences.
    """
    frames, num_labels = displacements.shape[1], int(labels.max()) + 1
    sequences = displacements.flatten(2)  # (N, T + 1, 3L)
    stays = share_that_stays(sequences, labels, num_labels)
    sequences = sequences - stays[:, None] * sequences[:, :1]
    apexes = apex_frames(sequences.unflatten(2, displacements.shape[2:]))  # (N,)
    middle = apexes.mean()
    aligned = move_apex(sequences, apexes, middle)

    apex_given = move_apex(means_of_the_others(aligned, labels, num_labels), middle, apexes)  # (N, T + 1, 3L)
    timing = best_share(sequences, apex_given, means_of_the_others(sequences, labels, num_labels))
    chances = apex_chances(apexes.long(), labels, num_labels, frames)
    names = sorted(set(subjects))
    strengths = subject_strengths(aligned, labels, torch.tensor([names.index(name) for name in subjects]), num_labels)
    moving = timing * label_means(aligned, labels, num_labels, strengths)  # (C, T + 1, 3L)
    rest = (1 - timing) * label_means(sequences, labels, num_labels, strengths)
    mean = rest.clone()
    for frame in chances.any(0).nonzero()[:, 0]:
        mean += chances[:, frame, None, None] * move_apex(moving, middle, frame)
    members = torch.nn.functional.one_hot(labels, num_labels).T.float()
    drawn_from = smooth(chances, len(labels))
    return LabelMotions(mean, rest, moving, middle, drawn_from, stays, displacements[:, 0], members, timing)


def label_means(values: Tensor, labels: Tensor, num_labels: int, strengths: Tensor | None = None) -> Tensor:
    """For each label the v with the least sum of |values_s - strengths_s v|^2, the mean where all strengths are 1.

    Args:
        values: (N, ...).
        labels: (N,) class indices.
        num_labels: C.
        strengths: (N,).

    Returns:
        (C, ...).
    """
    weights = torch.ones(len(labels), dtype=values.dtype) if strengths is None else strengths
    one_hot = torch.nn.functional.one_hot(labels, num_labels).T * weights  # (C, N)
    per_label = one_hot / one_hot.square().sum(1, keepdim=True)
    return (per_label @ values.reshape(len(labels), -1)).view(num_labels, *values.shape[1:])


def means_of_the_others(values: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """For each sequence the mean over the other sequences of its label, not finite where there is none.

    Args:
        values: (N, ...).
        labels: (N,) class indices.
        num_labels: C.

    Returns:
        (N, ...).
    """
    count = labels.bincount(minlength=num_labels)[labels].view(-1, *[1] * (values.dim() - 1))  # (N, ...)
    return (count * label_means(values, labels, num_labels)[labels] - values) / (count - 1)


def best_share(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The share w in 0..1 of the first of two predictions with the least sum of |values - w first - (1 - w) second|^2.

    Args:
        values, first, second: (N, ...); members without finite predictions do not count.

    Returns:
        (); 0 where both predict the same.
    """
    known = second.flatten(1).isfinite().all(1)
    difference, wanted = ((other - second)[known].double() for other in (first, values))
    energy = difference.square().sum()
    if energy < NOTHING:
        return torch.zeros(())
    return ((difference * wanted).sum() / energy).clamp(0, 1).float()


def share_that_stays(sequences: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """How much of the start frame is left in each frame: the regression of frames on start frames, within labels.

    Sequences that begin at the neutral face have no start displacement, so that nothing stays of it.

    Args:
        sequences: (N, T + 1, D) metres.
        labels: (N,) class indices.
        num_labels: C.

    Returns:
        (T + 1,) in 0..1; 1 at frame 0, or all zeros.
    """
    deviations = sequences - label_means(sequences, labels, num_labels)[labels]  # (N, T + 1, D)
    common = torch.einsum("ntd,nd->t", deviations, deviations[:, 0])
    return (common / common[0]).clamp(0, 1) if common[0] > NOTHING else torch.zeros_like(common)


def subject_strengths(sequences: Tensor, labels: Tensor, subjects: Tensor, num_labels: int) -> Tensor:
    """How strongly the subject of each sequence moves, 1 = the mean over subjects.

    Alternating least squares for x_s = strength * v, one v per label and one strength per subject.

    Args:
        sequences: (N, T + 1, D) metres.
        labels, subjects: (N,) class indices, and indices of subjects.
        num_labels: C.

    Returns:
        (N,).
    """
    belongs = torch.nn.functional.one_hot(subjects).T.float()  # (S, N)
    strengths = torch.ones(len(subjects))
    for _ in range(ROUNDS):
        motions = label_means(sequences, labels, num_labels, strengths)[labels].flatten(1)  # (N, (T + 1) D)
        energy = belongs @ motions.square().sum(1)  # (S,)
        if not (energy > NOTHING).all():
            break
        of_subjects = (belongs @ (motions * sequences.flatten(1)).sum(1)) / energy
        of_subjects = of_subjects.clamp(min=WEAKEST)
        strengths = (of_subjects / of_subjects.mean())[subjects]
    return strengths


def apex_chances(apexes: Tensor, labels: Tensor, num_labels: int, frames: int) -> Tensor:
    """The chance of each label's apex to come at a frame: as often as in all sequences, as far as labels do not differ.

    Whether they do is what the one-way analysis of variance says. Where chance alone makes such differences in less
    than 1 of 100 data sets, a label's own apexes have the weight 1 - 1/F, F the ratio of variances: the estimate of
    James and Stein (1961).

    Args:
        apexes: (N,) whole frames.
        labels: (N,) class indices.
        num_labels: C.
        frames: T + 1.

    Returns:
        (C, T + 1).
    """
    between, within = num_labels - 1, len(apexes) - num_labels  # degrees of freedom
    times, means = apexes.double(), label_means(apexes.double(), labels, num_labels)
    spread = (times - means[labels]).square().sum().item()
    differences = (means[labels] - times.mean()).square().sum().item()

    histograms = torch.nn.functional.one_hot(apexes, frames).float()  # (N, T + 1)
    every, own = histograms.mean(0).expand(num_labels, -1), label_means(histograms, labels, num_labels)
    if not (between and within and spread):
        return every
    ratio = differences / between / (spread / within)
    shared = 1.0 if fdtrc(between, within, ratio) > SIGNIFICANCE else 1 / ratio
    return shared * every + (1 - shared) * own


def smooth(chances: Tensor, count: int) -> Tensor:
    """Chances of frames as those of a smooth distribution, which a median needs more than a mean does: a Gaussian
    kernel of 1.06 s N^(-1/5) frames, s the standard deviation (Silverman, Density Estimation, 1986, equation 3.28).

    Args:
        chances: (C, T + 1), those of the first and last frame 0.
        count: N, of the sample.

    Returns:
        (C, T + 1).
    """
    frame = torch.arange(chances.shape[1], dtype=chances.dtype)
    deviation = (chances @ frame.square() - (chances @ frame).square()).clamp(min=0).sqrt()  # (C,)
    width = (1.06 * deviation * count**-0.2).clamp(min=NARROWEST)[:, None, None]
    kernel = (-0.5 * ((frame[:, None] - frame) / width).square()).exp()  # (C, T + 1, T + 1)
    kernel *= (frame > 0) & (frame < max(len(frame) - 1, 2))  # the ends are no apex
    return torch.einsum("cq,cqt->ct", chances, kernel / kernel.sum(2, keepdim=True))
