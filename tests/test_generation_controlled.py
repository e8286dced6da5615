"""The generator that follows controls: its definition and engine, what it follows and draws, and its training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from face4d.controls import Controls, GivenControls, as_ratios, complete, find_controls, label_directions
from face4d.datasets.augmentation import other_controls, retimed
from face4d.errors import InputError
from face4d.generation.control_draws import chosen_density, draw_bank
from face4d.generation.controlled import ControlledGenerator, controls_of, phases
from face4d.generation.sample import Generator
from tests.test_controls import motion

LAST = 20


def sequences(count=12, seed=1):
    """Motions (N, T + 1, 68, 3) of two labels, their labels and their true controls."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(0, 3e-3, (2, 68, 3))
    labels = np.arange(count) % 2
    ratios = np.stack([rng.uniform(0.2, 0.6, count), *rng.uniform(0.0, 0.4, (2, count)), np.full(count, 0.9)], axis=1)
    ratios = np.concatenate([ratios, rng.uniform(0.6, 1.4, (count, 1))], axis=1)
    controls = complete(ratios, GivenControls(), LAST)
    moved = [motion(directions[label], LAST + 1, *row) for label, row in zip(labels, controls.array(), strict=True)]
    return torch.tensor(np.stack(moved)).float(), torch.tensor(labels), controls


def fitted(engine="fast", hidden_size=8, components=4):
    torch.manual_seed(2)
    network = ControlledGenerator(2, hidden_size, components, engine=engine)
    moved, labels, controls = sequences()
    network.fit(moved, labels, seed=3)
    return network, moved, labels, torch.tensor(controls.array()).float()


def test_both_engines_are_the_same_network():
    results = []
    for engine in ("fast", "plain"):
        network, moved, labels, controls = fitted(engine)
        torch.nn.init.normal_(network.fc_2.weight, std=0.3)  # so that the recurrence matters
        torch.manual_seed(4)
        start = 1e-3 * torch.randn(len(moved), 68, 3)
        made = network(start, labels, LAST, controls)
        (made / 1e-3).square().mean().backward()
        results.append((made, {name: p.grad for name, p in network.named_parameters()}))
        torch.manual_seed(2)
    (fast, fast_gradients), (plain, plain_gradients) = results
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-8)
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())


def test_untrained_it_moves_along_the_label_as_given():
    network, moved, labels, _ = fitted(components=6)
    torch.nn.init.zeros_(network.fc_2.weight)
    found = controls_of(moved, labels, label_directions(moved.numpy(), labels.numpy(), 2))
    with torch.no_grad():
        made = network(moved[:, 0], labels, LAST, found)
    assert (made - moved[:, 1:]).norm() < 0.05 * moved.norm()


def test_phases_of_a_frame():
    code, envelope = phases(torch.tensor([[2.0, 6, 10, 18, 3]]), LAST)
    assert code.shape == (LAST, 1, ControlledGenerator.PHASES) and envelope.shape == (LAST, 1)
    frame = code[:, 0]
    np.testing.assert_allclose(envelope[[1, 3, 5, 9, 13, 17, 19], 0], [0, 0.5, 1, 1, 0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(frame[3, 1:4], [0.5, 0, 0])  # rise, hold, fall of frame 4
    np.testing.assert_allclose(frame[13, 1:4], [1, 1, 0.5])
    np.testing.assert_allclose(frame[0, 6:], [0.2, 0.2, 0.4, 2.0], atol=1e-6)  # the strength at its limit
    sudden, envelope = phases(torch.tensor([[5.0, 5, 5, 5, 1]]), LAST)
    assert torch.isfinite(sudden).all() and torch.isfinite(envelope).all()


def test_retimed_sequences_have_their_new_controls():
    moved, labels, controls = sequences(40)
    _, _, others = sequences(40, seed=9)
    made = retimed(moved, torch.tensor(controls.array()).float(), torch.tensor(others.array()).float())
    directions = label_directions(moved.numpy(), labels.numpy(), 2)
    found = find_controls(made.numpy(), directions[labels])
    own = find_controls(moved.numpy(), directions[labels])
    near = np.abs(found.array() - others.array())[:, :4]
    assert np.percentile(near, 80) < 0.35 and np.median(near) < 0.25  # frames; linear between frames
    np.testing.assert_allclose(found.strength / own.strength, others.strength / controls.strength, rtol=0.03)
    same = retimed(moved, torch.tensor(controls.array()).float(), torch.tensor(controls.array()).float())
    torch.testing.assert_close(same, moved, rtol=1e-3, atol=1e-6)


def test_other_controls_are_possible_and_repeatable():
    _, _, controls = sequences(200)
    own = torch.tensor(controls.array()).float()
    known = torch.tensor(as_ratios(controls, LAST))
    drawn = other_controls(own, known, LAST, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, other_controls(own, known, LAST, torch.Generator().manual_seed(1)))
    kept = (drawn == own).all(dim=1).float().mean()
    assert 0.4 < kept < 0.6
    assert (drawn[:, :4].diff(dim=1) >= -1e-4).all() and drawn[:, 0].min() >= 0 and drawn[:, 3].max() <= LAST + 1e-4
    ratio = drawn[:, 4] / own[:, 4]
    assert ratio.min() >= 0.6 - 1e-5 and ratio.max() <= 1.6 + 1e-5 and ratio.max() > 1.4


def test_labels_share_their_timing_only_where_it_is_the_same():
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(6), 10)
    common = np.concatenate([rng.uniform(0, 1, (60, 4)), np.ones((60, 1))], axis=1)
    assert chosen_density(common, labels)[0] >= 0.75
    apart = common.copy()
    apart[:, 0] = 0.15 * labels + rng.normal(0, 0.01, 60)
    assert chosen_density(apart, labels)[0] <= 0.25
    bank = draw_bank(apart, labels, 6, 400, rng)
    assert bank.shape == (6, 400, 5) and bank[..., :4].min() >= 0 and bank[..., :4].max() <= 1
    np.testing.assert_allclose(np.median(bank[:, :, 0], axis=1), 0.15 * np.arange(6), atol=0.1)
    pooled = draw_bank(common, labels, 6, 400, rng)
    np.testing.assert_allclose(pooled[..., 1].std(axis=1), common[:, 1].std(), rtol=0.15)


def test_a_density_of_very_few_sequences():
    assert draw_bank(np.array([[0.5, 0, 0, 1, 1.0]]), np.array([0]), 1, 8, np.random.default_rng(1)).shape == (1, 8, 5)
    two = draw_bank(
        np.array([[0.5, 0, 0, 1, 1.0], [0.2, 0, 0, 1, 1.0]]), np.array([0, 1]), 2, 8, np.random.default_rng(1)
    )
    assert np.isfinite(two).all()


@pytest.fixture
def generator():
    network, *_ = fitted(hidden_size=8, components=6)
    return Generator(Path("models/a.pt"), network.eval(), ("Happy", "Rage"), LAST + 1, 68, {}, {})


START = np.zeros((2, 68, 3), np.float32)


def test_it_does_what_it_is_told_in_any_length(generator):
    directions = ((generator.network.apex.weight * generator.network.scale) @ generator.network.basis.T).detach()
    given = GivenControls(onset=8, apex=24, hold=20, offset=72, strength=0.7)
    made = generator.generate(START, np.array([0, 1]), 80, controls=given)
    found = find_controls(made, directions.unflatten(1, (68, 3)).numpy())
    np.testing.assert_allclose(found.array(), [[8, 24, 44, 72, 0.7]] * 2, atol=1.5)
    np.testing.assert_allclose(found.strength, 0.7, atol=0.03)


def test_what_is_not_told_is_drawn_or_the_mean(generator):
    mean = generator.generate(START, np.array([0, 1]))
    np.testing.assert_array_equal(mean, generator.generate(START, np.array([0, 1])))
    draws = [generator.generate(START, np.array([0, 1]), seed=5, sample=sample) for sample in range(3)]
    assert len({draw.tobytes() for draw in (*draws, mean)}) == 4
    np.testing.assert_array_equal(draws[1], generator.generate(START, np.array([0, 1]), seed=5, sample=1))
    assert generator.stochastic
    given = [generator.generate(START, np.array([0, 1]), sample=k, controls=GivenControls(apex=9.0)) for k in range(3)]
    for made in given:
        largest = np.square(made).sum(axis=(2, 3)).argmax(axis=1)
        assert ((largest >= 9) & (largest <= LAST)).all()


def test_controls_that_cannot_be_and_generators_that_follow_none(generator):
    with pytest.raises(InputError, match="found apex 15 and hold 10 with the last frame 20"):
        generator.generate(START, np.array([0, 1]), controls=GivenControls(apex=15, hold=10))
    other = Generator(generator.path, torch.nn.Linear(2, 2), generator.labels, LAST + 1, 68, {}, {})
    with pytest.raises(InputError, match="a generator that follows controls"):
        other.generate(START, np.array([0, 1]), controls=GivenControls(apex=9))


def test_controls_of_tensors():
    moved, labels, controls = sequences()
    directions = label_directions(moved.numpy(), labels.numpy(), 2)
    found = controls_of(moved, labels, directions)
    assert found.dtype == torch.float32
    assert isinstance(Controls.of(found.numpy()), Controls)
    assert np.abs(found.numpy() - controls.array())[:, :4].max() < 0.8


def test_a_stretched_motion_is_still_before_its_onset_and_after_its_offset(generator):
    torch.nn.init.normal_(generator.network.fc_2.weight, std=0.001)
    given = GivenControls(onset=100, apex=105, hold=0, offset=110)
    made = generator.generate(START, np.array([0, 1]), 300, controls=given)
    size = np.linalg.norm(made.reshape(2, 301, -1), axis=2)
    assert size[:, 105].min() > 0.95 * size.max(axis=1).min()
    outside = np.concatenate([size[:, :99], size[:, 112:]], axis=1)
    assert outside.max() < 0.05 * size.max()


def test_an_apex_at_the_last_frame_is_the_end(generator, caplog):
    made = generator.generate(START, np.array([0, 1]), controls=GivenControls(apex=LAST))
    size = np.linalg.norm(made.reshape(2, LAST + 1, -1), axis=2)
    assert (size.argmax(axis=1) == LAST).all() and not caplog.messages


def test_sudden_flanks_are_noted(generator, caplog):
    generator.generate(START, np.array([0, 1]), 100, controls=GivenControls(onset=40, apex=42))
    assert caplog.messages == ["note: the face moves from onset to apex within 2 of 100 frames"]
