"""Networks: the thesis' reference vectors, shapes, gradients."""

import zlib

import numpy as np
import pytest
import torch

from face4d.generation.config import GeneratorConfig
from face4d.generation.lstm import CoefficientGenerator, ThesisGenerator, build_network
from face4d.generation.recurrence import sufficient_components


def recipe_weights(network: torch.nn.Module) -> None:
    """The reference's weights: every entry drawn from a generator seeded with its own name."""
    values = {}
    for name, tensor in network.state_dict().items():
        draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape)).astype(np.float32)
        gain = np.float32(1 / np.sqrt(np.prod(draw.shape[1:]))) if draw.ndim >= 2 else np.float32(0.02)
        values[name] = torch.from_numpy(draw * gain)
    network.load_state_dict(values)


@pytest.fixture
def decoder(reference):
    network = ThesisGenerator(num_labels=12, hidden_size=64)
    recipe_weights(network)
    return network, {
        name: torch.from_numpy(value) for name, value in reference("c01_decoder").items() if value.dtype.kind != "U"
    }


@pytest.mark.parametrize("frames", [40, 7])
def test_thesis_generator_meets_the_reference_outputs(decoder, frames):
    network, vectors = decoder
    with torch.no_grad():
        output = network(vectors["inputs"], vectors["labels"], frames)
    torch.testing.assert_close(output, vectors[f"out{frames}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("frames", [40, 7])
@pytest.mark.parametrize(("name", "loss_name"), [("l1", "l1"), ("l2", "mse")])
def test_thesis_generator_meets_the_reference_gradients(decoder, reference, frames, name, loss_name):
    network, vectors = decoder
    distance = torch.nn.functional.l1_loss if name == "l1" else torch.nn.functional.mse_loss
    loss = distance(network(vectors["inputs"], vectors["labels"], frames), vectors["target"][:, :frames])
    loss.backward()
    assert loss.item() == pytest.approx(vectors[f"{loss_name}_loss{frames}"].item(), rel=1e-6)
    parameters = dict(network.named_parameters())
    for k, parameter_name in enumerate(reference("c01_decoder")["param_names"]):
        gradient = parameters[str(parameter_name)].grad
        expected_sum = vectors[f"{loss_name}_gradabs{frames}"][k].item()
        assert gradient.abs().sum(dtype=torch.float64).item() == pytest.approx(expected_sum, rel=1e-5)
        first = vectors[f"{loss_name}_gradfirst4_{frames}"][k]
        torch.testing.assert_close(gradient.flatten()[:4], first, rtol=0, atol=1e-5 * gradient.abs().max().item())


@pytest.mark.parametrize("network", [ThesisGenerator(3, 8), CoefficientGenerator(3, 8, 4)])
def test_shapes_and_independence_of_batch_members(network):
    start, labels = torch.randn(5, 68, 3), torch.tensor([0, 1, 2, 1, 0])
    with torch.no_grad():
        together = network(start, labels, 9)
        alone = torch.cat([network(start[i : i + 1], labels[i : i + 1], 9) for i in range(5)])
    assert together.shape == (5, 9, 68, 3)
    torch.testing.assert_close(together, alone)


def test_label_changes_the_motion():
    network = CoefficientGenerator(2, 8, 4)
    network.fit_basis(torch.randn(20, 68, 3))
    with torch.no_grad():
        first, second = network(torch.zeros(2, 68, 3), torch.tensor([0, 1]), 5)
    assert (first - second).abs().max() > 1e-3


def test_basis_is_orthonormal_and_keeps_what_lies_in_it():
    directions = torch.randn(3, 204)
    data = (torch.randn(50, 3) @ directions).unflatten(1, (68, 3))
    network = CoefficientGenerator(2, 8, 3)
    network.fit_basis(data)
    torch.testing.assert_close(network.basis.T @ network.basis, torch.eye(3), atol=1e-5, rtol=0)
    coefficients = data.flatten(1) @ network.basis / network.scale
    torch.testing.assert_close(coefficients.square().mean(0), torch.ones(3), atol=1e-4, rtol=0)  # whitened
    torch.testing.assert_close(
        (coefficients * network.scale @ network.basis.T).unflatten(1, (68, 3)), data, atol=1e-4, rtol=1e-4
    )


def test_without_a_basis_nothing_moves():
    network = CoefficientGenerator(2, 8, 4)
    with torch.no_grad():
        assert not network(torch.randn(3, 68, 3), torch.tensor([0, 1, 1]), 5).any()


def test_position_code_is_of_three_octaves_of_the_duration():
    frames = 12
    code = CoefficientGenerator(2, 8, 4).position_code(frames)
    time = np.arange(1, frames + 1) / frames  # the last frame is at 1
    expected = [function(2**octave * np.pi * time) for function in (np.sin, np.cos) for octave in range(3)]
    np.testing.assert_allclose(code.numpy(), np.stack(expected, axis=1), atol=1e-5)


def test_components_beyond_the_rank_of_the_data_have_a_scale_of_a_micrometre():
    data = 0.01 * (torch.randn(20, 2) @ torch.randn(2, 204)).unflatten(1, (68, 3))
    network = CoefficientGenerator(2, 8, 6)
    network.fit_basis(data)
    assert (network.scale[:2] > 1e-3).all()
    torch.testing.assert_close(network.scale[2:], torch.full((4,), 1e-6), rtol=1e-6, atol=0)


def test_network_of_a_configuration():
    thesis = build_network(GeneratorConfig(network="thesis", hidden_size=16), 5)
    assert isinstance(thesis, ThesisGenerator) and thesis.lstm.hidden_size == 16 and thesis.num_labels == 5
    other = build_network(GeneratorConfig(network="coefficients", hidden_size=16, components=7), 5)
    assert isinstance(other, CoefficientGenerator) and other.basis.shape == (204, 7) and other.lstm.hidden_size == 16
    for network in (thesis, other):
        assert network(torch.zeros(1, 68, 3), torch.tensor([4]), 2).shape == (1, 2, 68, 3)
    assert not other.residual and build_network(GeneratorConfig(components=2), 5, 10).basis.shape == (30, 2)
    assert build_network(GeneratorConfig(components=2), 5).residual


def test_basis_of_fewer_dimensions_than_components_stays_finite():
    network = CoefficientGenerator(2, 8, 16)
    network.fit_basis(torch.randn(4, 68, 3) * 1e-3)
    assert torch.isfinite(network(torch.zeros(1, 68, 3), torch.tensor([0]), 3)).all()
    assert (network.scale >= 1e-6 - 1e-12).all()


def test_training_begins_with_the_mean_motion_and_what_stays_of_the_start():
    torch.manual_seed(6)
    network = CoefficientGenerator(3, 8, 4)
    network.fit_basis(torch.randn(40, 68, 3))
    frames = 24
    time = torch.arange(1, frames + 1) / frames
    curve = 0.5 - (3 * torch.pi * time).sin() + 2 * (2 * torch.pi * time).cos()
    shapes = (torch.randn(3, 4) @ network.basis.T).unflatten(1, (68, 3))
    motions = curve[:, None, None] * shapes[:, None]  # (3, T, 68, 3), in the span of basis and series
    stays = 0.5 + 0.5 * (torch.pi * time).cos()
    network.fit_motion(motions, stays)
    start = (torch.randn(2, 4) @ network.basis.T).unflatten(1, (68, 3))
    labels = torch.tensor([2, 0])
    with torch.no_grad():
        generated = network(start, labels, frames)
        half = network(start, labels, frames // 2)
    expected = motions[labels] + stays[:, None, None] * start[:, None]
    torch.testing.assert_close(generated, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(half, expected[:, 1::2], atol=1e-4, rtol=1e-4)  # the same in fewer frames


def test_without_the_mean_motion_the_lstm_gives_all():
    network = CoefficientGenerator(2, 8, 4, residual=False)
    assert "motion" not in network.state_dict() and "stays" not in network.state_dict()
    network.fit_basis(torch.randn(20, 68, 3))
    start, labels = torch.randn(2, 68, 3), torch.tensor([0, 1])
    with torch.no_grad():
        alone = network.decoded(network.recurrence(start, labels, network.position_code(5)[:, None])).flatten(2)
        torch.testing.assert_close(network(start, labels, 5), alone.unflatten(2, (68, 3)))


def test_components_that_hold_nearly_all_motion():
    directions = torch.linalg.qr(torch.randn(204, 5)).Q.T
    sizes = torch.tensor([1.0, 0.1, 0.01, 1e-4, 1e-5])  # of 1 + 0.01 + 1e-4 + 1e-8 + 1e-10
    frames = torch.eye(5) * sizes @ directions
    assert sufficient_components(frames.unflatten(1, (68, 3))) == 3
    assert sufficient_components(frames.unflatten(1, (68, 3)), lost=0.5) == 1
    assert sufficient_components(torch.zeros(4, 68, 3)) == 1
