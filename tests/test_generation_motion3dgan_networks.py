"""Networks of Motion3DGAN: the cheap convolutions against the plain ones, shapes, the condition."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from face4d.generation.motion3dgan.networks import (
    ConvolutionalCritic,
    ConvolutionalGenerator,
    DenseCritic,
    DenseGenerator,
    condition_code,
    convolve_constant,
    convolve_doubled,
)


def as_channels(code, size):
    return code[:, :, None, None].expand(-1, -1, *size)


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [((6, 5), 3, 1), ((7, 4), 5, 2), ((204, 30), 5, 2), ((2, 1), 5, 1), ((13, 2), 5, 2)]
)
def test_constant_channels_without_a_map(size, kernel, stride):
    torch.manual_seed(0)
    code, weight = torch.randn(2, 3, dtype=torch.float64), torch.randn(4, 3, kernel, kernel, dtype=torch.float64)
    expected = functional.conv2d(as_channels(code, size), weight, stride=stride, padding=kernel // 2)
    torch.testing.assert_close(convolve_constant(code, weight, size, stride), expected)


@pytest.mark.parametrize("size", [(5, 3), (1, 1), (4, 7)])
def test_convolution_of_a_doubled_map(size):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, *size, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    expected = functional.conv2d(functional.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
    torch.testing.assert_close(convolve_doubled(x, weight), expected)


def plain_generator(network, noise, code):
    """The published layers one by one."""
    x = network.fc(torch.cat([noise, code], 1)).relu().view(len(noise), -1, *network.first)
    for stage, size in zip(network.stages, network.sizes):
        x = functional.interpolate(x, size=size, mode="nearest")
        x = functional.conv2d(torch.cat([x, as_channels(code, size)], 1), stage.weight, stage.bias, padding=1).relu()
    last = network.last
    x = functional.conv2d(torch.cat([x, as_channels(code, x.shape[2:])], 1), last.weight, last.bias, padding=1)
    return x.tanh()[:, 0].transpose(1, 2)


def plain_critic(network, tangent, code):
    x = tangent.transpose(1, 2)[:, None]
    for stage, norm in zip(network.stages, network.norms):
        x = torch.cat([x, as_channels(code, x.shape[2:])], 1)
        x = norm(functional.conv2d(x, stage.weight, stage.bias, stride=2, padding=2)).relu()
    x = functional.leaky_relu(network.norm_1(network.fc_1(torch.cat([x.flatten(1), code], 1))), 0.2)
    return network.fc_2(torch.cat([x, code], 1))[:, 0]


@pytest.mark.parametrize(("landmarks", "points"), [(68, 30), (5, 13)])
def test_networks_are_the_published_layers(landmarks, points):
    torch.manual_seed(0)
    generator = ConvolutionalGenerator(3, landmarks, points, noise_size=7, width=0.01).double()
    noise, code = torch.randn(2, 7, dtype=torch.float64), torch.randn(2, 9, dtype=torch.float64)
    made = generator(noise, code)
    assert made.shape == (2, points, 3 * landmarks)
    torch.testing.assert_close(made, plain_generator(generator, noise, code))
    critic = ConvolutionalCritic(3, landmarks, points, width=0.05).double()
    torch.testing.assert_close(critic(made, code), plain_critic(critic, made, code))


def test_published_sizes():
    with torch.device("meta"):
        generator, critic = ConvolutionalGenerator(12), ConvolutionalCritic(12, normalisation="batch")
    assert generator.first == (51, 7) and generator.sizes == ((102, 14), (204, 28), (204, 30))
    assert generator.fc.weight.shape == (51 * 7 * 1024, 128 + 36)
    assert [tuple(stage.weight.shape) for stage in generator.stages] == [
        (512, 1060, 3, 3),
        (256, 548, 3, 3),
        (128, 292, 3, 3),
    ]
    assert generator.last.weight.shape == (1, 164, 3, 3)
    assert [tuple(stage.weight.shape) for stage in critic.stages] == [(64, 37, 5, 5), (32, 100, 5, 5), (16, 68, 5, 5)]
    assert critic.fc_1.weight.shape == (1024, 16 * 26 * 4 + 36) and critic.fc_2.weight.shape == (1, 1060)
    assert all(isinstance(norm, nn.BatchNorm2d) for norm in critic.norms) and isinstance(critic.norm_1, nn.BatchNorm1d)


def test_however_narrow_every_layer_has_a_channel():
    generator = ConvolutionalGenerator(2, 4, 8, noise_size=2, width=1e-6)
    assert generator.fc.out_features == 3 * 2 and [stage.out_channels for stage in generator.stages] == [1, 1, 1]
    critic = ConvolutionalCritic(2, 4, 8, width=1e-6)
    assert [stage.out_channels for stage in critic.stages] == [1, 1, 1] and critic.fc_1.out_features == 1


@pytest.mark.parametrize("normalisation", ["layer", "batch", "none"])
def test_only_batch_norm_ties_samples_together(normalisation):
    torch.manual_seed(0)
    code = condition_code(torch.tensor([0, 1, 1]), 2, None)
    critics = {
        ConvolutionalCritic(2, 4, 8, width=0.1, normalisation=normalisation): torch.randn(3, 8, 12),
        DenseCritic(2, 5, 6, normalisation): torch.randn(3, 5),
    }
    for critic, seen in critics.items():
        alone, together = critic(seen[:2], code[:2]), critic(seen, code)[:2]
        assert torch.allclose(alone, together, atol=1e-6) == (normalisation != "batch")


def test_condition_code_says_the_label():
    labels = torch.tensor([0, 2, 2, 1])
    code = condition_code(labels, 3, torch.Generator().manual_seed(1)).unflatten(1, (3, 3))  # (B, C, 3)
    size = code.abs()
    assert (
        (size > 0).all()
        and (size < 1).all()
        and torch.equal(size[:, 0], size[:, 1])
        and torch.equal(size[:, 0], size[:, 2])
    )
    assert torch.equal(code > 0, functional.one_hot(labels, 3).bool()[:, :, None].expand(-1, -1, 3))
    assert len(size[:, 0].unique()) == 12
    assert torch.equal(condition_code(labels, 3, torch.Generator().manual_seed(1)).unflatten(1, (3, 3)), code)


def test_dense_networks_listen_to_noise_and_label():
    torch.manual_seed(0)
    generator = DenseGenerator(3, 5, 4, 16)
    noise, code = torch.randn(1, 4).expand(2, -1), condition_code(torch.tensor([0, 1]), 3, None)
    by_label = generator(noise, code)
    assert by_label.shape == (2, 5) and not torch.allclose(by_label[0], by_label[1])
    by_noise = generator(torch.randn(2, 4), code[:1].expand(2, -1))
    assert not torch.allclose(by_noise[0], by_noise[1])
