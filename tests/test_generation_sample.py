"""Use of a generator: lengths, seeds, labels, what is written."""

from pathlib import Path

import numpy as np
import pytest
import torch

from face4d.errors import InputError
from face4d.generation.config import GeneratorConfig
from face4d.generation.lstm import CoefficientGenerator, ThesisGenerator, build_network
from face4d.generation.motion3dgan.config import MotionGANConfig
from face4d.generation.motion3dgan.networks import Motion3DGAN
from face4d.generation.sample import Generator, load_generator, network_of
from face4d.resample import resample_cubic
from face4d.runtime.checkpoint import save_checkpoint


class Parabola(torch.nn.Module):
    """Frame t is start + label * t^2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, start, labels, frames):
        assert labels.dtype == torch.int64  # as an embedding takes them
        time = torch.arange(1.0, frames + 1)[None, :, None, None]
        return start[:, None] + self.weight * labels[:, None, None, None] * time**2


class Noise(Parabola):
    stochastic = True

    def forward(self, start, labels, frames, random):
        return torch.randn(len(start), frames, *start.shape[1:], generator=random)


def generator(network, frames=5) -> Generator:
    return Generator(Path("models/a.pt"), network, ("Happy", "mouth-open"), frames, 68, {}, {})


START = np.random.default_rng(0).normal(size=(2, 68, 3)).astype(np.float32)


def test_frame_zero_is_the_start_and_another_length_the_same_motion():
    ours = generator(Parabola())
    found = ours.generate(START, np.array([0, 1]))
    assert found.shape == (2, 5, 68, 3) and found.dtype == np.float32 and not ours.stochastic
    np.testing.assert_array_equal(found[:, 0], START)
    np.testing.assert_allclose(found[1] - START[1], np.arange(5.0)[:, None, None] ** 2 * np.ones((68, 3)), atol=1e-5)
    np.testing.assert_array_equal(ours.generate(START, [0, 1], 4), found)  # frames after the start
    in_other_types = ours.generate(START.astype(np.float64), np.array([0, 1], np.uint8))
    assert in_other_types.dtype == np.float32
    np.testing.assert_array_equal(in_other_types, found)
    for frames in (1, 3, 9):
        other = ours.generate(START, [0, 1], frames)
        assert other.shape == (2, frames + 1, 68, 3)
        np.testing.assert_allclose(other, [resample_cubic(sequence, frames + 1) for sequence in found])
        np.testing.assert_allclose(other[:, -1], found[:, -1], rtol=1e-6)  # the whole duration


def test_answers_follow_from_seed_and_number_alone():
    ours = generator(Noise())
    assert ours.stochastic
    draw = lambda **how: ours.generate(START, [0, 1], **how)[:, 1:]  # noqa: E731
    np.testing.assert_array_equal(draw(), draw(seed=27, sample=0))
    torch.manual_seed(5)  # torch's own generator does not matter
    np.testing.assert_array_equal(draw(seed=3, sample=2), draw(seed=3, sample=2))
    drawn = [draw(seed=seed, sample=sample) for seed in (-1, 0, 1, 65, 2**32 - 2) for sample in range(3)]
    assert len({array.tobytes() for array in drawn}) == 15
    np.testing.assert_array_equal(draw(seed=1), draw(seed=1 + 2**32))  # seeds have 32 bits
    np.testing.assert_array_equal(draw(seed=-1), draw(seed=2**32 - 1))


def test_labels_in_either_spelling_and_no_others():
    ours = generator(Parabola())
    assert [ours.label_index(label) for label in ("Happy", "mouth-open", "mouth_open")] == [0, 1, 1]
    with pytest.raises(InputError) as error:
        ours.label_index("Hapy")
    known = "expected a label it was trained on (Happy, mouth-open), found Hapy; the nearest is Happy"
    assert str(error.value) == f"{ours.path}: {known}"


NETWORKS = pytest.mark.parametrize(
    ("config", "kind"),
    [
        (GeneratorConfig(network="thesis", hidden_size=8), ThesisGenerator),
        (GeneratorConfig(hidden_size=8, components=4), CoefficientGenerator),
        (MotionGANConfig(hidden_size=8, components=4, points=6), Motion3DGAN),
    ],
)


@NETWORKS
def test_the_network_of_a_checkpoint_takes_no_memory(config, kind):
    network = network_of({"config": config.as_dict(), "labels": ["a", "b", "c"], "num_landmarks": 68})
    assert isinstance(network, kind)
    assert all(parameter.is_meta for parameter in network.parameters())


@NETWORKS
def test_a_saved_generator_answers_as_before(tmp_path, config, kind):
    torch.manual_seed(3)
    is_gan = kind is Motion3DGAN
    network = Motion3DGAN(config, 3) if is_gan else build_network(config, 3)
    record = {"config": config.as_dict(), "labels": ["a", "b", "c-d"], "num_landmarks": 68, "frames": 7}
    record |= {"source": {"dataset": "demo"}, "metrics": {"test/mm": 0.5}, "model": network.state_dict()}
    save_checkpoint(tmp_path / "a.pt", "generator", record)
    loaded = load_generator(tmp_path / "a.pt")
    assert type(loaded.network) is kind and not loaded.network.training and loaded.stochastic == is_gan
    assert (loaded.path, loaded.labels, loaded.frames, loaded.num_landmarks) == (
        tmp_path / "a.pt",
        ("a", "b", "c-d"),
        7,
        68,
    )
    assert loaded.source["dataset"] == "demo" and loaded.metrics == {"test/mm": 0.5}
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)
    assert loaded.generate(START, [0, 2]).shape == (2, 7, 68, 3)
