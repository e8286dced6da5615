"""Motions of labels in closed form: made sequences whose motions, strengths and times are known."""

import pytest
import torch

from face4d.constants import FLORENCE_LABELS
from face4d.datasets.augmentation import apex_frames, move_apex
from face4d.datasets.landmark_set import load_split, tensors
from face4d.generation.label_motions import (
    apex_chances,
    best_share,
    fit_label_motions,
    label_means,
    means_of_the_others,
    share_that_stays,
    smooth,
    subject_strengths,
)

FRAMES, LANDMARKS = 21, 5
SUBJECTS = ("a", "b", "c", "d", "e", "f")


def pulse(apex: float) -> torch.Tensor:
    """(FRAMES,) straight up to 1 at the apex and straight down."""
    time = torch.arange(FRAMES, dtype=torch.float32)
    return torch.where(time < apex, time / apex, (FRAMES - 1 - time) / (FRAMES - 1 - apex))


def directions(count: int, seed: int = 0) -> torch.Tensor:
    return 0.01 * torch.randn(count, LANDMARKS, 3, generator=torch.Generator().manual_seed(seed))


def grid(labels: int) -> tuple[torch.Tensor, list[str]]:
    """Class indices and subjects of sequences of all subjects, label after label."""
    return torch.arange(labels).repeat_interleave(len(SUBJECTS)), list(SUBJECTS) * labels


def moved(apexes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, FRAMES, L, 3): a label's direction times a pulse."""
    curves = torch.stack([pulse(apex) for apex in apexes.tolist()])
    return curves[:, :, None, None] * directions(int(labels.max()) + 1)[labels][:, None]


def test_where_apexes_explain_all_a_label_has_the_times_of_all_sequences():
    labels, subjects = grid(4)
    apexes = torch.randint(5, 16, (len(labels),), generator=torch.Generator().manual_seed(1))
    data = moved(apexes, labels)
    motions = fit_label_motions(data, labels, subjects)
    assert motions.timing > 0.99
    curve = torch.stack([pulse(apex) for apex in apexes.tolist()]).mean(0)  # of all labels
    pooled = curve[:, None, None] * directions(4)[:, None]
    own = label_means(data, labels, 4)
    error = (motions.mean.unflatten(2, (LANDMARKS, 3)) - pooled).norm()
    assert error < 0.04 * pooled.norm() and error < 0.4 * (own - pooled).norm()


def test_where_apexes_explain_nothing_a_label_has_its_mean():
    labels, _ = grid(3)
    draw = torch.Generator().manual_seed(2)
    data = moved(torch.full((len(labels),), 10.0), labels)
    data += 0.004 * torch.randn(len(labels), 1, LANDMARKS, 3, generator=draw) * pulse(10)[:, None, None]
    motions = fit_label_motions(data, labels, ["one"] * len(labels))
    assert motions.timing == 0 and not motions.moving.any()
    torch.testing.assert_close(motions.mean, label_means(data, labels, 3).flatten(2), atol=1e-7, rtol=1e-4)


def test_motions_with_an_apex_average_to_the_mean():
    labels, subjects = grid(3)
    draw = torch.Generator().manual_seed(3)
    data = moved(torch.randint(6, 14, (len(labels),), generator=draw), labels)
    hold = (4 * pulse(10)).clamp(max=1)[:, None, None] * directions(1)  # its largest displacement comes by chance
    data[labels == 1] = hold * (1 + 0.01 * torch.randn(6, FRAMES, 1, 1, generator=draw))
    motions = fit_label_motions(data, labels, subjects)
    assert 0.1 < motions.timing < 0.9
    chances = apex_chances(apex_frames(data).long(), labels, 3, FRAMES)
    total = torch.zeros_like(motions.mean)
    for frame in range(1, FRAMES - 1):
        total += chances[:, frame, None, None] * motions.with_apex(torch.arange(3), torch.full((3,), float(frame)))
    torch.testing.assert_close(total, motions.mean, atol=1e-8, rtol=1e-4)
    early, late = (motions.with_apex(torch.tensor([0]), torch.tensor([at]))[0].norm(dim=1).argmax() for at in (6, 14))
    assert (early, late) == (6, 14)


def test_strengths_of_subjects():
    labels, subjects = grid(3)
    strengths = torch.tensor([0.5, 0.8, 1.0, 1.1, 1.2, 1.4])
    data = moved(torch.full((len(labels),), 8.0), labels) * strengths.repeat(3)[:, None, None, None]
    numbers = torch.arange(6).repeat(3)
    torch.testing.assert_close(subject_strengths(data.flatten(2), labels, numbers, 3), strengths.repeat(3))
    motions = fit_label_motions(data, labels, subjects)
    expected = pulse(8)[:, None, None] * directions(3)[:, None]
    torch.testing.assert_close(motions.mean, expected.flatten(2), atol=1e-7, rtol=1e-3)
    resting = torch.cat([data[:6], torch.zeros_like(data[:6])])  # a label that does not move
    assert fit_label_motions(resting, labels[:12], subjects[:12]).mean.isfinite().all()


def test_what_stays_of_the_start_frame_is_kept_apart():
    labels, subjects = grid(4)
    apexes = torch.randint(5, 16, (len(labels),), generator=torch.Generator().manual_seed(1))
    data, starts = moved(apexes, labels), directions(len(labels), seed=5)[:, None]
    remains = torch.linspace(1, 0.25, FRAMES)
    motions = fit_label_motions(data + remains[:, None, None] * starts, labels, subjects)
    torch.testing.assert_close(motions.stays, remains, atol=0.05, rtol=0)
    without = fit_label_motions(data, labels, subjects)
    assert not without.stays.any()
    torch.testing.assert_close(motions.mean, without.mean, atol=1e-3, rtol=0)
    drawn = motions.draw(torch.tensor([2]), 0, torch.Generator().manual_seed(1))[0, 0]
    assert any(torch.allclose(drawn[0], start[0], atol=1e-5) for start in starts[labels == 2])
    assert share_that_stays(data.flatten(2), labels, 4).shape == (FRAMES,)


def test_apex_chances_are_shared_unless_labels_clearly_differ():
    labels, _ = grid(3)
    draw = torch.Generator().manual_seed(4)
    alike = torch.randint(5, 16, (len(labels),), generator=draw)
    chances = apex_chances(alike, labels, 3, FRAMES)
    torch.testing.assert_close(chances[0], chances[2])
    torch.testing.assert_close(chances[0], alike.bincount(minlength=FRAMES) / len(alike))
    apart = torch.tensor([4, 10, 16])[labels] + torch.randint(0, 3, (len(labels),), generator=draw)
    chances = apex_chances(apart, labels, 3, FRAMES)
    torch.testing.assert_close(chances.sum(1), torch.ones(3))
    assert chances[0, 4:7].sum() > 0.95 and chances[2, 16:19].sum() > 0.95
    same = apex_chances(torch.full((6,), 7), torch.tensor([0, 0, 0, 1, 1, 1]), 2, FRAMES)
    assert (same[:, 7] == 1).all()


def test_smooth_chances_keep_the_mean_and_are_wider_by_the_kernel():
    apexes = torch.randint(6, 14, (30,), generator=torch.Generator().manual_seed(4))
    chances = apexes.bincount(minlength=FRAMES)[None] / 30
    smoothed, frame = smooth(chances, 30), torch.arange(FRAMES, dtype=torch.float32)
    assert smoothed.sum().item() == pytest.approx(1) and not smoothed[:, [0, -1]].any()
    mean, variance = apexes.float().mean(), apexes.float().var(correction=0)
    assert (smoothed[0] @ frame).item() == pytest.approx(mean.item(), abs=0.1)
    wider = (smoothed[0] @ (frame - mean).square()).item()
    assert wider == pytest.approx(variance.item() * (1 + (1.06 * 30**-0.2) ** 2), rel=0.05)
    always = torch.eye(FRAMES)[7:8]
    torch.testing.assert_close(smooth(always, 30), always)
    assert smooth(torch.tensor([[0.0, 1.0]]), 3).tolist() == [[0, 1]]  # a sequence of two frames


def test_draws_repeat_with_the_generator_and_begin_at_a_start_frame():
    labels, subjects = grid(4)
    data = moved(torch.randint(5, 16, (24,), generator=torch.Generator().manual_seed(1)), labels)
    motions = fit_label_motions(data, labels, subjects)
    chosen = torch.tensor([3, 0, 2])
    drawn = [motions.draw(chosen, 5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert drawn[0].shape == (5, 3, FRAMES, LANDMARKS, 3) and not drawn[0][:, :, 0].any()
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    many = motions.draw(chosen, 4000, torch.Generator().manual_seed(1)).mean(0)
    mean = motions.draw(chosen, 0, torch.Generator().manual_seed(1))
    assert mean.shape == (1, 3, FRAMES, LANDMARKS, 3)
    torch.testing.assert_close(many, mean[0], atol=2e-3, rtol=0)  # smooth chances


@pytest.mark.parametrize(("count", "frames"), [(1, 9), (2, 3), (3, 2)])
def test_few_sequences_and_frames(count, frames):
    """One sequence per label: nothing can be left out, so that nothing is known of times."""
    data = 0.01 * torch.randn(count, frames, LANDMARKS, 3, generator=torch.Generator().manual_seed(0))
    data -= data[:, :1].clone()
    motions = fit_label_motions(data, torch.arange(count), ["one"] * count)
    assert motions.timing == 0
    torch.testing.assert_close(motions.mean, data.flatten(2), atol=1e-7, rtol=1e-4)


def test_means_of_the_others():
    values, labels = torch.tensor([1.0, 3.0, 8.0, 5.0])[:, None], torch.tensor([0, 0, 0, 1])
    others = means_of_the_others(values, labels, 2)
    torch.testing.assert_close(others[:3, 0], torch.tensor([5.5, 4.5, 2.0]))
    assert not others[3].isfinite().any()


def test_best_share_of_two_predictions():
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 30, 4, generator=draw)
    second[7] = torch.nan  # one has no prediction
    shares = torch.tensor([-0.5, 0.0, 0.3, 1.0, 1.7])
    found = torch.stack([best_share(share * first + (1 - share) * second, first, second) for share in shares])
    torch.testing.assert_close(found, shares.clamp(0, 1))
    assert best_share(first, second, second) == 0
    noisy = 0.3 * first + 0.7 * second + 0.5 * torch.randn(30, 4, generator=draw)
    share = best_share(noisy, first, second)
    errors = [
        (noisy - other * first - (1 - other) * second).nan_to_num().square().sum()
        for other in (share - 0.05, share, share + 0.05)
    ]
    assert errors[1] == min(errors) < max(errors)


def test_moving_an_apex():
    both = torch.stack([pulse(5), pulse(12)])[:, :, None]
    torch.testing.assert_close(
        move_apex(both, torch.tensor([5.0, 12.0]), torch.tensor(9.0)), pulse(9).expand(2, -1)[:, :, None]
    )


@pytest.mark.parametrize(("labels", "most"), [(FLORENCE_LABELS, 8.2e-7), (None, 4.04e-7)])
def test_real_labels_are_met_better_than_by_their_means(shared_data, labels, most):
    split = load_split(shared_data / "landmarks_florence", labels=labels)
    data, indices = tensors(split.train, split.labels, torch.device("cpu"))
    real, of_real = tensors(split.test, split.labels, torch.device("cpu"))
    motions = fit_label_motions(data, indices, [sequence.subject for sequence in split.train])
    assert motions.timing > 0.99
    error = (motions.mean[of_real] - real.flatten(2))[:, 1:].square().mean()
    assert error < most < 0.9 * (label_means(data, indices, len(split.labels))[of_real] - real)[:, 1:].square().mean()
