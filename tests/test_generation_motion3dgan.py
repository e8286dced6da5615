"""Motion3DGAN: the penalty by hand, millimetres that come back, training, resuming, sampling."""

import math

import numpy as np
import pytest
import torch
from scipy.io import savemat

from face4d import srvf
from face4d.datasets.landmark_set import (
    FACE_SIZE,
    INTENSITY,
    LandmarkSequence,
    LandmarkSplit,
    load_split,
    load_srvf_samples,
    tensors,
)
from face4d.errors import InputError
from face4d.generation.motion3dgan.config import PRESETS
from face4d.generation.motion3dgan.networks import Motion3DGAN, closed, in_time
from face4d.generation.motion3dgan.train import Trainer, gradient_penalty, train, training_motions
from face4d.generation.sample import load_generator
from face4d.runtime.device import seed_everything
from face4d.runtime.run_folder import Run

TINY = {
    "hidden_size": 16,
    "components": 8,
    "noise_size": 4,
    "points": 12,
    "warps": 4,
    "epochs": 4,
    "batch_size": 8,
    "steps_per_epoch": 3,
    "validate_every": 2,
}
CPU = torch.device("cpu")


@pytest.fixture
def split(landmark_folder):
    return load_split(landmark_folder, test_subjects=("CH01", "CH02"))


def config(preset="default", **flags):
    return PRESETS[preset].with_settings({**TINY, **flags})


def fitted(split, configuration):
    """A model that knows its training motions, and these."""
    generator = seed_everything(configuration.seed)
    data, labels = tensors(split.train, split.labels, CPU)
    model = Motion3DGAN(configuration, len(split.labels))
    motions = training_motions(data, labels, configuration, generator)
    model.fit(*motions)
    return model, motions, generator


def run_training(split, folder, configuration, **how):
    metrics = train(split, configuration, Run("a", folder / "models", folder / "runs", quiet=True, **how))
    return metrics, load_generator(folder / "models" / "a.pt")


class LinearCritic(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, seen, code):
        return seen.flatten(1) @ self.weight + code.sum(1)


def test_gradient_penalty_of_a_linear_critic_by_hand():
    """Its gradient is the weight w everywhere: penalty (|w| - 1)^2, with gradient 2 (|w| - 1) w / |w|."""
    critic = LinearCritic(torch.tensor([3.0, 0, 0, 4]))
    real, made = torch.randn(5, 2, 2), torch.randn(5, 2, 2)
    penalty = gradient_penalty(critic, real, made, torch.randn(5, 3), torch.rand(5))
    penalty.backward()
    assert penalty.item() == pytest.approx(16)
    torch.testing.assert_close(critic.weight.grad, 8 * torch.tensor([0.6, 0, 0, 0.8]))


def test_gradient_penalty_looks_between_real_and_made():
    """The gradient of |x|^2 / 2 is x itself."""
    real, made = torch.full((2, 4), 3.0), torch.full((2, 4), 1.0)
    penalty = gradient_penalty(
        lambda x, code: x.square().sum(1) / 2, real, made, torch.zeros(2, 3), torch.tensor([1.0, 0.25])
    )
    assert penalty.item() == pytest.approx(((6 - 1) ** 2 + (3 - 1) ** 2) / 2)


def test_motions_come_back_in_metres(split):
    data, labels = tensors(split.train, split.labels, CPU)
    motions = training_motions(data, labels, config(warps=0), torch.Generator())
    torch.testing.assert_close(srvf.srvf_to_curve(motions.q, motions.lengths), data.flatten(2), rtol=0, atol=1e-7)
    torch.testing.assert_close(srvf.inner(motions.q, motions.q), torch.ones(9))
    assert (motions.ends < 1e-5).all()
    warped = training_motions(data, labels, config(), torch.Generator().manual_seed(0))
    assert warped.q.shape == (36, 12, 204) and torch.equal(warped.labels, labels.repeat(4))
    along = training_motions(data, labels, config("published", points=60), torch.Generator())
    speed = along.q.norm(dim=2)
    assert (speed - 1).abs().max() < 0.05, "equal distances everywhere"


def test_coefficients_and_tangents_are_the_same_point(split):
    for network in ("coefficients", "convolution"):
        model, motions, _ = fitted(split, config(network=network, components=36, width=0.01))
        seen = model.encode(motions.q)
        if network == "coefficients":
            torch.testing.assert_close(model.point(seen), motions.q, rtol=0, atol=1e-4)
            assert seen.square().mean().sqrt().item() == pytest.approx(1, abs=0.01)
        else:
            torch.testing.assert_close(srvf.exp_map(model.reference, seen), motions.q, rtol=0, atol=1e-4)
            torch.testing.assert_close(model.point(3 * motions.q), motions.q)


def test_lengths_and_returns_of_labels(split):
    half = [
        LandmarkSequence(
            s.path,
            s.label,
            s.subject,
            np.repeat(s.landmarks[:7], 2, 0)[:13] if s.label == "Rage" else s.landmarks,
            s.neutral,
        )
        for s in split.train
    ]
    model, motions, _ = fitted(LandmarkSplit(tuple(half), split.test, split.labels), config(warps=0))
    assert model.returns.tolist() == [True, False, True]
    of_rage = motions.lengths[motions.labels == 1].log()
    torch.testing.assert_close(model.log_length[1], torch.stack([of_rage.mean(), of_rage.std(correction=0)]))
    start = 0.001 * torch.randn(6, 68, 3)
    drawn = model(start, torch.tensor([0, 1, 2] * 2), 24, torch.Generator().manual_seed(0))
    assert drawn.shape == (6, 24, 68, 3)
    away = (drawn[:, -1] - start).flatten(1).norm(dim=1)
    assert (away[[0, 2, 3, 5]] < 1e-5).all() and (away[[1, 4]] > 1e-3).all()
    travelled = (drawn[1::3].flatten(2).diff(dim=1).norm(dim=2).sum(1)).log()
    assert ((travelled - of_rage.mean()).abs() < 2 * of_rage.std() + 0.3).all()


def test_closing_leaves_closed_curves_and_first_frames_alone():
    curve = torch.tensor([[[0.0], [2], [0]], [[0], [2], [1]], [[0], [0], [0]]])
    expected = torch.tensor([[[0.0], [2], [0]], [[0], [2 - 2 / 3], [0]], [[0], [0], [0]]])
    torch.testing.assert_close(closed(curve), expected)
    torch.testing.assert_close(in_time(curve[:1], 5)[0, :, 0], torch.tensor([0.0, 1, 2, 1, 0]))


def test_trainer_averages_the_generator_and_leaves_the_average_out_of_training(split):
    configuration = config(averaging=0.75, critic_steps=1)
    model, motions, generator = fitted(split, configuration)
    trainer = Trainer(model, motions, configuration, generator, CPU)
    before = [value.clone() for value in model.generator.parameters()]
    trainer.generator_loss().backward()
    trainer.optimizers.generator.step()
    trainer.average()
    for old, new, average in zip(before, model.generator.parameters(), model.averaged.parameters()):
        torch.testing.assert_close(average, old + 0.25 * (new - old))
        assert not torch.equal(old, new) and not average.requires_grad


def test_published_losses(split):
    """Without a critic's word the generator's loss is 10 mean |difference of tangents| + 10 mean angle, the angle
    clipped at 0.98."""
    configuration = config("published", width=0.02, batch_size=4, critic_steps=1)
    assert (
        configuration.lr == 1e-4
        and configuration.clip == 0.98
        and configuration.penalty == 10
        and PRESETS["published"].width == 1
    )
    model, motions, generator = fitted(split, configuration)
    torch.nn.init.zeros_(model.critic.fc_2.weight)
    torch.nn.init.zeros_(model.critic.fc_2.bias)
    trainer = Trainer(model, motions, configuration, generator, CPU)
    state = generator.get_state()
    draw = trainer.draw()
    generator.set_state(state)
    made = srvf.to_sphere(model.generator(draw.noise, draw.code))
    real = motions.q[draw.chosen]
    tangents = [srvf.log_map(model.reference, q, 0.98) for q in (made, real)]
    angle = srvf.inner(made, real).clamp(-0.98, 0.98).acos()
    expected = 10 * (tangents[0] - tangents[1]).abs().mean() + 10 * angle.mean()
    torch.testing.assert_close(trainer.generator_loss().detach(), expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("preset", ["default", "published"])
def test_interrupted_and_resumed_is_uninterrupted(split, tmp_path, preset, monkeypatch):
    configuration = config(preset, width=0.01, critic_norm="layer" if preset == "default" else "batch")
    metrics, whole = run_training(split, tmp_path / "whole", configuration)
    import face4d.generation.motion3dgan.train as module

    steps = 0
    original = module.Trainer.generator_loss

    def interrupted_step(self):
        nonlocal steps
        steps += 1
        if steps == 8:
            raise KeyboardInterrupt
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(module.Trainer, "generator_loss", interrupted_step)
        with pytest.raises(KeyboardInterrupt):
            run_training(split, tmp_path / "parts", configuration, checkpoint_seconds=0)
    again, resumed = run_training(split, tmp_path / "parts", configuration, resume=True)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key
    assert {**metrics, "seconds": 0} == {**again, "seconds": 0}
    assert metrics["test/mm_best"] <= metrics["test/mm"] and metrics["test/multimodality_mm"] > 0


def test_it_learns_labels_and_many_answers(split, tmp_path):
    """A short training tells the labels apart, and its answers to one label differ."""
    configuration = config(
        hidden_size=32, epochs=5, steps_per_epoch=60, batch_size=16, averaging=0.95, lr=2e-3, critic_steps=2
    )
    _, generator = run_training(split, tmp_path, configuration)
    data, labels = tensors(split.train, split.labels, CPU)
    peak = data.flatten(2).mean(1)  # (N, 204)
    means = torch.stack([peak[labels == label].mean(0) for label in range(3)])
    wanted = np.repeat(np.arange(3), 10)
    drawn = torch.from_numpy(generator.generate(np.zeros((30, 68, 3)), wanted)).flatten(2)
    nearest = torch.cdist(drawn.mean(1), means).argmin(1).numpy()
    assert (nearest == wanted).mean() > 0.9
    assert (drawn[1] - drawn[0]).abs().max() > 1e-4
    sizes = drawn.norm(dim=2).amax(1)
    assert ((sizes / data.flatten(2).norm(dim=2).amax(1).mean() - 1).abs() < 0.5).all()


def test_samples_follow_from_the_seed_alone(split, tmp_path):
    _, generator = run_training(split, tmp_path, config(epochs=1))
    start, labels = np.zeros((2, 68, 3), np.float32), np.array([0, 2])
    assert generator.stochastic
    first, again = (generator.generate(start, labels, seed=5, sample=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - generator.generate(start, labels, seed=6, sample=3)).max() > 1e-5
    assert np.abs(first - generator.generate(start, labels, seed=5, sample=2)).max() > 1e-5
    torch.manual_seed(0)
    state = torch.get_rng_state()
    generator.generate(start, labels)
    assert torch.equal(state, torch.get_rng_state())
    assert generator.generate(start, labels, 7).shape == (2, 8, 68, 3)


def test_a_face_that_does_not_move_is_refused(split, tmp_path):
    still = split.train[0]
    frozen = LandmarkSequence(
        still.path, still.label, still.subject, np.repeat(still.landmarks[:1], 13, 0), still.neutral
    )
    with pytest.raises(InputError, match="a face that moves, found 13 equal frames"):
        run_training(LandmarkSplit((frozen, *split.train[1:]), split.test, split.labels), tmp_path, config())


@pytest.mark.parametrize("flags", [{"precision": "bf16"}, {"averaging": 1.0}, {"points": 3}])
def test_configurations_that_make_no_sense(flags):
    with pytest.raises(InputError, match="--" + next(iter(flags))):
        config(**flags)


def save_samples(folder, labels=("mouth_up", "bareteeth"), **content):
    folder.mkdir(exist_ok=True)
    samples = np.random.default_rng(0).normal(0, 0.07, (3, 204, 30)).astype(np.float32)
    for label in labels:
        savemat(folder / f"{label}.mat", content or {"x_test": samples})
    return samples


def test_published_samples_are_training_sequences(tmp_path):
    samples = save_samples(tmp_path)
    split = load_srvf_samples(tmp_path)
    assert split.labels == ("bareteeth", "mouth-up") and len(split.train) == 6 and not split.test
    curve = srvf.published_srvf_to_curve(torch.from_numpy(samples[1].T.astype(np.float64))) * INTENSITY * FACE_SIZE
    np.testing.assert_allclose(split.train[1].displacement.reshape(30, 204), curve.numpy(), rtol=1e-5, atol=1e-8)
    assert (split.train[1].label, split.train[1].subject) == ("bareteeth", "sample-01")
    assert load_srvf_samples(tmp_path, ["mouth_up"]).labels == ("mouth-up",)
    metrics, generator = run_training(split, tmp_path, config())
    assert generator.frames == 30 and math.isfinite(metrics["train/mm"]) and "test/mm" not in metrics


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"x": np.ones(3)}, "no x_test"),
        ({"x_test": np.ones((2, 203, 30))}, r"shape \(2, 203, 30\)"),
        ({"x_test": np.full((2, 204, 30), np.nan)}, "NaN"),
        ({"x_test": "words"}, "not full, real numbers"),
    ],
)
def test_bad_samples_are_refused(tmp_path, content, found):
    save_samples(tmp_path, **content)
    with pytest.raises(InputError, match=found):
        load_srvf_samples(tmp_path)


def test_damaged_or_missing_samples_are_refused(tmp_path):
    save_samples(tmp_path)
    with pytest.raises(InputError, match="labels Zen, found only bareteeth, mouth-up"):
        load_srvf_samples(tmp_path, ["Zen"])
    for content in (b"", b"garbage" * 100, (tmp_path / "bareteeth.mat").read_bytes()[:5000]):
        (tmp_path / "mouth_up.mat").write_bytes(content)
        with pytest.raises(InputError, match="unreadable"):
            load_srvf_samples(tmp_path)


def test_real_samples_load(shared_data):
    split = load_srvf_samples(shared_data / "motion3dgan_samples")
    assert len(split.labels) == 12 and len(split.train) == 96
    lengths = [np.linalg.norm(np.diff(s.displacement.reshape(30, -1), axis=0), axis=1).sum() for s in split.train]
    assert 0.07 < min(lengths) and max(lengths) < 0.14
