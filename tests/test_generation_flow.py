"""The flow-matching generator: coordinates that come back in metres, the flow by hand, controls, training, resuming."""

import numpy as np
import pytest
import torch

import face4d.generation.flow.train as training
from face4d.controls import Controls, GivenControls, find_controls, label_directions
from face4d.datasets.landmark_set import load_split, tensors
from face4d.errors import InputError
from face4d.generation.flow.config import PRESETS
from face4d.generation.flow.networks import CONTROLS, MotionFlow, VelocityNetwork
from face4d.generation.flow.train import TrainingMotions, effects, train
from face4d.generation.sample import load_generator
from face4d.runtime.run_folder import Run
from tests.conftest import write_landmarks

TINY = {"hidden_size": 16, "components": 6, "blocks": 2, "epochs": 4, "batch_size": 8, "steps_per_epoch": 3}
TINY |= {"validate_every": 2, "sampling_steps": 2}
CPU = torch.device("cpu")


@pytest.fixture
def split(landmark_folder):
    return load_split(landmark_folder, test_subjects=("CH01", "CH02"))


def config(**flags):
    return PRESETS["default"].with_settings({**TINY, **flags})


def fitted(split, **flags):
    """A model that knows its training motions, their coordinates, and themselves."""
    torch.manual_seed(0)
    data, labels = tensors(split.train, split.labels, CPU)
    model = MotionFlow(config(**flags), len(split.labels))
    return model, model.fit(data, labels), data, labels


def run_training(split, folder, configuration, **how):
    metrics = train(split, configuration, Run("a", folder / "models", folder / "runs", quiet=True, **how))
    return metrics, load_generator(folder / "models" / "a.pt")


def test_coordinates_come_back_in_metres(split):
    model, coordinates, data, labels = fitted(split, components=9)
    assert coordinates.shape == (9, CONTROLS + 9)
    torch.testing.assert_close(coordinates.mean(0), torch.zeros(CONTROLS + 9), rtol=0, atol=1e-3)
    again = model.motion(coordinates, labels, model.controls_of(coordinates, 12), 12)
    error = (again - (data - data[:, :1])).norm(dim=3).max()
    assert error < 0.05 * data.norm(dim=3).max(), "but for interpolation between few frames"


def test_controls_of_coordinates_are_those_of_the_sequences(split):
    model, coordinates, data, labels = fitted(split)
    directions = label_directions(data.numpy(), labels.numpy(), 3)[labels.numpy()]
    np.testing.assert_allclose(
        model.controls_of(coordinates, 12).array(), find_controls(data.numpy(), directions).array(), atol=0.02
    )
    assert model.controls_of(coordinates, 24).apex == pytest.approx(2 * model.controls_of(coordinates, 12).apex)


def test_any_coordinates_are_possible_controls(split):
    model, *_ = fitted(split)
    wild = 5 * torch.randn(500, 11, generator=torch.Generator().manual_seed(0))
    for given in (GivenControls(), GivenControls(apex=3, hold=2), GivenControls(onset=2, offset=9)):
        found = model.controls_of(wild, 12, given)
        times = np.concatenate([np.zeros((500, 1)), found.array()[:, :4], np.full((500, 1), 12.0)], axis=1)
        assert (np.diff(times, axis=1) >= -1e-9).all()
    assert (found.onset == 2).all() and (found.offset == 9).all()


def test_before_training_the_flow_is_that_of_normal_coordinates():
    """From noise it leads to a normal distribution with the coordinates' deviations: x_1 = d x_0."""
    network = VelocityNetwork(3, 2, 8, 1)
    network.spread.copy_(torch.tensor([1.0, 0.5, 2.0]))
    x = noise = torch.randn(20, 3)
    condition, steps = network.condition(torch.zeros(20, dtype=torch.long), torch.full((20, 5), torch.nan)), 200
    for step in range(steps):
        x = x + network(x, torch.full((20, 1), (step + 0.5) / steps), condition) / steps
    torch.testing.assert_close(x, network.spread * noise, rtol=0.03, atol=0.02)


def test_what_is_given_and_what_is_not_are_told_apart():
    network = VelocityNetwork(11, 2, 8, 1)
    label, nothing = torch.zeros(1, dtype=torch.long), torch.full((1, 5), torch.nan)
    zero = torch.where(torch.arange(5) == 1, 0.0, nothing)
    assert not torch.allclose(network.condition(label, nothing), network.condition(label, zero))
    far, farther = (torch.full((1, 5), value) for value in (3.0, 300.0))
    torch.testing.assert_close(network.condition(label, far), network.condition(label, farther))


@pytest.mark.parametrize("last", [12, 60])
def test_draws_obey_controls(split, last):
    model, _, data, labels = fitted(split)
    start = torch.randn(3, 1, 3).expand(3, 68, 3) * 1e-3
    unit = last // 12
    given = GivenControls(apex=5 * unit, hold=3 * unit, strength=0.5)
    drawn = model(start, torch.arange(3), last, torch.Generator().manual_seed(0), given)
    assert drawn.shape == (3, last, 68, 3)
    moved = torch.cat([start[:, None], drawn], dim=1).detach() - start[:, None]
    found = find_controls(moved.numpy(), label_directions(data.numpy(), labels.numpy(), 3))
    near = max(0.7, 0.35 * unit)  # the motions were learnt from few frames
    assert found.apex == pytest.approx(5 * unit, abs=near) and found.release == pytest.approx(8 * unit, abs=near)
    assert found.strength == pytest.approx(0.5, abs=0.05)
    rows = Controls(*np.array([[0, 0, 1], [4, 6, 5], [4, 8, 6], [12, 12, 10]]) * unit, np.array([1, 0.5, -1]))
    drawn = model(start, torch.arange(3), last, torch.Generator().manual_seed(0), rows).detach() - start[:, None]
    peak = drawn.flatten(2).norm(dim=2).argmax(1) + 1
    assert all(rows.apex - 1 <= peak.numpy()) and all(peak.numpy() <= rows.release + 1)
    directions = torch.from_numpy(label_directions(data.numpy(), labels.numpy(), 3)).float()
    along = (drawn * directions[:, None]).sum((2, 3)) / directions.square().sum((1, 2))[:, None]
    assert along[torch.arange(3), peak - 1].numpy() == pytest.approx(rows.strength, abs=0.1)


def test_impossible_controls_are_one_line(split):
    model, *_ = fitted(split)
    with pytest.raises(InputError, match="found apex 10 and hold 5 with the last frame 12"):
        model(torch.zeros(1, 68, 3), torch.tensor([0]), 12, None, GivenControls(apex=10, hold=5))


def test_guidance_leads_from_no_condition_through_what_was_learnt(split):
    model, *_ = fitted(split)
    torch.nn.init.normal_(model.averaged.last.weight, std=0.1)
    labels, nothing = torch.arange(3), torch.full((3, 5), torch.nan)
    none, learnt, more = (model.draw(labels, nothing, torch.Generator().manual_seed(0), g) for g in (0.0, 1.0, 2.0))
    free = model.draw(torch.full((3,), 3), nothing, torch.Generator().manual_seed(0))
    torch.testing.assert_close(none, free)
    assert (learnt - none).abs().max() > 1e-3 and ((more - none) * (learnt - none)).sum() > 0


def test_training_motions_have_mean_and_deviation_of_the_sequences(split):
    model, coordinates, _, labels = fitted(split)
    motions = TrainingMotions(model, coordinates, labels, 12, 0.5)
    motions.pooled, motions.width = 1.0, 0.25
    drawn, own = motions.draw(30_000, torch.Generator().manual_seed(0))
    assert torch.bincount(own).float().std() < 300
    torch.testing.assert_close(drawn[:, :4].mean(0), coordinates[:, :4].mean(0), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn[:, :4].std(0), coordinates[:, :4].std(0), rtol=0.03, atol=0.01)
    for label in range(3):
        of_label, real = drawn[own == label, 4:], coordinates[labels == label, 4:]
        torch.testing.assert_close(of_label.mean(0), real.mean(0), rtol=0, atol=0.05)
        torch.testing.assert_close(of_label.std(0), real.std(0), rtol=0.05, atol=0.01)
    motions.pooled, motions.width = 0.0, 0.0
    drawn, own = motions.draw(200, torch.Generator().manual_seed(0))
    for label in range(3):  # with no kernel timing is that of a sequence of the label, about the mean
        real = coordinates[labels == label, :4]
        wider = real.mean(0) + (3 / 2) ** 0.5 * (real - real.mean(0))
        assert torch.cdist(drawn[own == label, :4], wider).amin(1).max() < 1e-3


def test_effects_are_what_coordinates_change(split):
    model, coordinates, _, labels = fitted(split)
    found = effects(model, coordinates, labels, 12)
    assert found.shape == (11,) and found[1] > found[3], "the apex moves all of a motion, the offset its end"
    moved = model.motion(coordinates, labels, model.controls_of(coordinates, 12), 12)
    changed = coordinates.clone()
    changed[:, CONTROLS] += 1
    other = model.motion(changed, labels, model.controls_of(coordinates, 12), 12)
    assert found[CONTROLS].item() == pytest.approx((other - moved).square().mean().sqrt().item(), rel=1e-3)


def test_interrupted_and_resumed_is_uninterrupted(split, tmp_path, monkeypatch):
    metrics, whole = run_training(split, tmp_path / "whole", config())
    steps, original = 0, training.TrainingMotions.draw

    def interrupted(self, size, random):
        nonlocal steps
        steps += 1
        if steps == 8:
            raise KeyboardInterrupt
        return original(self, size, random)

    with monkeypatch.context() as patch:
        patch.setattr(training.TrainingMotions, "draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_training(split, tmp_path / "parts", config(), checkpoint_seconds=0)
    again, resumed = run_training(split, tmp_path / "parts", config(), resume=True)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key
    assert {**metrics, "seconds": 0} == {**again, "seconds": 0}
    assert metrics["test/mm_best"] <= metrics["test/mm"] and metrics["test/multimodality_mm"] > 0


def test_it_learns_labels_and_when_their_apexes_come(split, tmp_path):
    """A short training: answers to a label are as strong and as early or late as its sequences, and unlike others'."""
    configuration = config(hidden_size=64, epochs=3, steps_per_epoch=150, batch_size=64, sampling_steps=6)
    _, generator = run_training(split, tmp_path, configuration)
    data, labels = tensors(split.train, split.labels, CPU)
    directions = torch.from_numpy(label_directions(data.numpy(), labels.numpy(), 3)).float().flatten(1)  # (3, 204)
    wanted = np.repeat(np.arange(3), 100)
    drawn = torch.from_numpy(generator.generate(np.zeros((300, 68, 3), np.float32), wanted, seed=1, sample=0))
    largest = drawn.flatten(2)[torch.arange(300), drawn.flatten(2).norm(dim=2).argmax(1)]
    assert (torch.cdist(largest, directions).argmin(1).numpy() == wanted).all()
    strengths = (largest * directions[wanted]).sum(1) / directions[wanted].square().sum(1)
    assert strengths.mean().item() == pytest.approx(1, abs=0.05)
    real, made = (x.flatten(2).norm(dim=2).argmax(1).double() for x in (data, drawn))
    assert made.std().item() == pytest.approx(real.std().item(), rel=0.35)
    assert made.mean().item() == pytest.approx(real.mean().item(), abs=0.8)


def test_samples_follow_from_the_seed_alone(split, tmp_path):
    _, generator = run_training(split, tmp_path, config(epochs=1))
    start, labels = np.zeros((2, 68, 3), np.float32), np.array([0, 2])
    assert generator.stochastic and generator.controlled
    first, again = (generator.generate(start, labels, seed=5, sample=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - generator.generate(start, labels, seed=6, sample=3)).max() > 1e-5
    assert np.abs(first - generator.generate(start, labels, seed=5, sample=2)).max() > 1e-5
    state = torch.get_rng_state()
    typical = generator.generate(start, labels, seed=5)
    np.testing.assert_array_equal(typical, generator.generate(start, labels, seed=6))
    assert torch.equal(state, torch.get_rng_state())
    longer = generator.generate(start, labels, 30, seed=5, sample=3)
    assert longer.shape == (2, 31, 68, 3)
    np.testing.assert_allclose(longer[:, ::5], first[:, ::2], atol=0.06 * np.abs(first).max())


def test_one_sequence_of_a_label_is_enough(tmp_path):
    folder = write_landmarks(tmp_path / "landmarks", ("Happy", "Rage"), ("CH01", "CH03"), 13)
    still = np.load(folder / "Rage_CH03.npy")
    np.save(folder / "Rage_CH03.npy", np.repeat(still[:1], 13, 0))
    metrics, generator = run_training(load_split(folder, test_subjects=("CH01",)), tmp_path, config())
    drawn = generator.generate(np.zeros((2, 68, 3), np.float32), np.array([0, 1]), seed=1, sample=0)
    assert np.isfinite(metrics["test/mm_best"]) and np.isfinite(drawn).all()


@pytest.mark.parametrize("flags", [{"smoothing": -1.0}, {"averaging": 1.0}, {"blocks": 0}, {"unlabelled": 2.0}])
def test_configurations_that_make_no_sense(flags):
    with pytest.raises(InputError, match="--" + next(iter(flags))):
        config(**flags)


def test_real_florence_controls_given(shared_data, tmp_path):
    """With the controls of each sequence given, the label's shape alone is nearer than 0.05 mm."""
    found = load_split(shared_data / "landmarks_florence", labels=("Cheeky", "Rage"))
    data, labels = tensors(found.train, found.labels, CPU)
    model = MotionFlow(config(components=8), 2)
    model.fit(data, labels)
    real, wanted = tensors(found.test, found.labels, CPU)
    controls = find_controls(real.numpy(), label_directions(data.numpy(), labels.numpy(), 2)[wanted.numpy()])
    mean = (torch.zeros(13) - model.location) / model.scale  # no coefficients
    made = model.motion(mean.expand(len(real), -1), wanted, controls, 60)
    assert (made - real).norm(dim=3).mean() < 0.05e-3
