"""The unrolled recurrence against a plain loop through autograd, in both precisions."""

import copy

import pytest
import torch
from torch.nn import functional

from face4d.generation import unroll as engine
from face4d.generation.config import PRESETS
from face4d.generation.lstm import CoefficientGenerator, ThesisGenerator, build_network
from face4d.generation.unroll import Product, run_steps, unroll

CASES = [  # batch, frames, constant codes
    (3, 5, True),
    (2, 4, False),
    (1, 1, True),
    (4, 1, False),
]


def plain_unroll(
    frames, y, h, c, gate_code, inner_code, frame_weight, hidden_weight, inner_weight, output_weight, output_bias
):
    """The recurrence as written in the module's head, one autograd node per operation."""
    generated = []
    for t in range(frames):
        gates = gate_code[min(t, len(gate_code) - 1)] + y @ frame_weight.T + h @ hidden_weight.T
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        y = functional.linear(
            torch.relu(inner_code[min(t, len(inner_code) - 1)] + h @ inner_weight.T), output_weight, output_bias
        )
        generated.append(y)
    return torch.stack(generated, dim=1)


def random_tensors(batch, frames, constant, size=3, width=4, dtype=torch.float64):
    times = 1 if constant else frames
    draw = torch.Generator().manual_seed(5)
    shapes = [(batch, size), (batch, width), (batch, width), (times, batch, 4 * width), (times, batch, width)]
    shapes += [(4 * width, size), (4 * width, width), (width, width), (size, width), (size,)]
    return [torch.randn(shape, dtype=dtype, generator=draw).mul_(0.7).requires_grad_() for shape in shapes]


@pytest.fixture(params=["thesis", "coefficients", "residual"])
def network(request):
    torch.manual_seed(3)
    if request.param == "thesis":
        return ThesisGenerator(3, 12)
    network = CoefficientGenerator(3, 12, 5, residual=request.param == "residual")
    network.fit_basis(torch.randn(40, 68, 3))
    if network.residual:
        network.fit_motion(torch.randn(3, 8, 68, 3), torch.rand(8))
        torch.nn.init.normal_(network.fc_2.weight)
    return network


def plain(network):
    """The same network and weights, as it is defined."""
    network = copy.deepcopy(network)
    network.engine = "plain"
    return network


def outputs_and_gradients(network, start, labels, frames):
    start = start.clone().requires_grad_()
    network.zero_grad()
    output = network(start, labels, frames)
    target = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    (output - target).square().mean().backward()
    return output.detach(), {
        "start": start.grad,
        **{name: parameter.grad.clone() for name, parameter in network.named_parameters()},
    }


@pytest.mark.parametrize(("batch", "frames", "constant"), CASES)
def test_gradients_are_those_of_finite_differences(batch, frames, constant):
    tensors = random_tensors(batch, frames, constant)
    assert torch.autograd.gradcheck(lambda *arguments: unroll(frames, *arguments), tensors, atol=1e-7)


@pytest.mark.parametrize(("batch", "frames", "constant"), CASES)
def test_outputs_and_gradients_are_those_of_the_plain_recurrence(batch, frames, constant):
    tensors = random_tensors(batch, frames, constant)
    weights = torch.randn(batch, frames, 3, dtype=torch.float64)
    results = []
    for function in (unroll, plain_unroll):
        output = function(frames, *tensors)
        results.append((output, *torch.autograd.grad((output * weights).sum(), tensors)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("frames", [1, 2, 9])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_networks_meet_the_plain_loop(network, frames, dtype, tolerance):
    network.to(dtype)
    start, labels = torch.randn(4, 68, 3, dtype=dtype), torch.tensor([0, 1, 2, 1])
    output, gradients = outputs_and_gradients(network, start, labels, frames)
    expected, expected_gradients = outputs_and_gradients(plain(network), start, labels, frames)
    torch.testing.assert_close(output, expected, rtol=0, atol=tolerance * expected.abs().max().item())
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(
            gradients[name],
            gradient,
            rtol=0,
            atol=tolerance * gradient.abs().max().item(),
            msg=lambda m, n=name: f"{n}: {m}",
        )


@pytest.mark.parametrize("preset", PRESETS)
def test_both_engines_of_every_preset_agree(preset):
    """At the preset's own sizes, in double precision."""
    torch.manual_seed(5)
    network = build_network(PRESETS[preset].with_settings({"components": 30}), 10).double()
    if isinstance(network, CoefficientGenerator):
        network.fit_basis(torch.randn(300, 68, 3).double())
    start, labels = 0.01 * torch.randn(3, 68, 3, dtype=torch.float64), torch.tensor([0, 9, 4])
    output, gradients = outputs_and_gradients(network, start, labels, 12)
    expected, expected_gradients = outputs_and_gradients(plain(network), start, labels, 12)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-12)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-7, atol=1e-10 * gradient.abs().max().item())
    assert build_network(PRESETS[preset].with_settings({"engine": "plain", "components": 1}), 10).engine == "plain"


def test_wide_networks_meet_the_plain_loop():
    """Wide enough for the oneDNN products, where there are any; against float64."""
    torch.manual_seed(4)
    network = ThesisGenerator(3, 400)
    start, labels = 0.1 * torch.randn(5, 68, 3), torch.tensor([0, 1, 2, 1, 1])
    output, gradients = outputs_and_gradients(network, start, labels, 6)
    expected, expected_gradients = outputs_and_gradients(plain(network).double(), start.double(), labels, 6)
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name].double(), gradient, rtol=0, atol=1e-5 * gradient.abs().max().item())


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("shape", [(204, 96), (700, 204)])  # (K, N) below and above the threshold
@pytest.mark.parametrize("by_columns", [False, True])
def test_products_with_and_without_onednn(monkeypatch, onednn, shape, by_columns):
    monkeypatch.setattr(engine, "mkl_is_at_home", lambda: not onednn)
    matrix = torch.randn(shape[::-1]).t() if by_columns else torch.randn(shape)
    x, addend = torch.randn(7, shape[0]), torch.randn(7, shape[1])
    before = addend.clone()
    with torch.no_grad():
        product = Product(matrix, len(x))
        exact = x.double() @ matrix.double()
        for result, expected in ((product(x), exact), (product(x, addend), exact + addend)):
            torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(addend, before)


def test_products_of_other_types(monkeypatch):
    """float64 keeps its digits, whatever the size; bfloat16 rounds the factors and neither the addend nor the sum."""
    monkeypatch.setattr(engine, "mkl_is_at_home", lambda: False)
    draw = torch.Generator().manual_seed(0)
    x, matrix, addend = (
        torch.randn(shape, dtype=torch.float64, generator=draw) for shape in ((7, 700), (700, 204), (7, 204))
    )
    product = Product(matrix, len(x))
    assert not product.onednn
    torch.testing.assert_close(product(x), torch.einsum("bk,kn->bn", x, matrix), rtol=1e-12, atol=1e-12)
    x, matrix, addend = x.float(), matrix.float(), 1000 * addend.float()
    rounded = Product(matrix, len(x), torch.bfloat16)
    expected = (x.bfloat16() @ matrix.bfloat16()).float()
    assert torch.equal(rounded(x), expected) and torch.equal(rounded(x, addend), expected + addend)
    assert torch.equal(rounded(x, addend[0]), expected + addend[0])


def test_equal_runs_give_equal_bits(network):
    start, labels = torch.randn(4, 68, 3), torch.tensor([0, 1, 2, 1])
    output, gradients = outputs_and_gradients(network, start, labels, 7)
    again, gradients_again = outputs_and_gradients(network, start, labels, 7)
    assert torch.equal(output, again)
    assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)


def test_without_gradients_the_result_is_the_same_and_only_frames_are_kept():
    tensors = random_tensors(2, 6, False)
    with torch.no_grad():
        generated, *stacks, _ = run_steps(6, None, False, *tensors)
        silent = unroll(6, *tensors)
    assert not silent.requires_grad
    assert torch.equal(silent, generated) and torch.equal(silent, unroll(6, *tensors))
    assert all(len(stack) <= 2 for stack in stacks)


def test_gradients_can_be_taken_twice_from_one_forward_pass_but_not_differentiated():
    tensors = random_tensors(2, 4, True)
    loss = unroll(4, *tensors).square().sum()
    first = torch.autograd.grad(loss, tensors, retain_graph=True)
    assert all(
        torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(loss, tensors, retain_graph=True), strict=True)
    )
    (gradient,) = torch.autograd.grad(loss, tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_later_changes_of_the_output_do_not_reach_the_gradients():
    tensors = random_tensors(2, 4, True)
    expected = torch.autograd.grad(unroll(4, *tensors).sum(), tensors)
    output = unroll(4, *tensors)
    total = output.sum()
    output.detach().zero_()
    assert all(torch.equal(a, b) for a, b in zip(expected, torch.autograd.grad(total, tensors), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_meets_the_cpu(network):
    start, labels = torch.randn(4, 68, 3), torch.tensor([0, 1, 2, 1])
    output, gradients = outputs_and_gradients(network, start, labels, 9)
    output_cuda, gradients_cuda = outputs_and_gradients(network.cuda(), start.cuda(), labels.cuda(), 9)
    torch.testing.assert_close(output_cuda.cpu(), output, rtol=0, atol=1e-5 * output.abs().max().item())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradients_cuda[name].cpu(), gradient, rtol=0, atol=1e-5 * gradient.abs().max().item()
        )
