"""Functions repeated as graphs do their work once per call, on the tensors of that call."""

import pytest
import torch

from face4d.runtime.device import CudaGraphs, GraphedFunction


class RepeatedCalls:
    """Stands in for CudaGraphs where there is no GPU: a captured call is kept without being carried out, and carried
    out by replays."""

    def __init__(self):
        self.warmed, self.captured = 0, 0

    def warm_up(self, call):
        self.warmed += 1
        return call()

    def capture(self, call):
        self.captured += 1
        return call


def make_function():
    """A step that changes a weight by what it is given, as a training step does."""
    weight = torch.zeros(3)

    def step(values, factors, *, key):
        weight.add_(key * (values * factors).sum(0))
        return weight.sum()

    return step, weight


def devices():
    return [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
    ]


@pytest.mark.parametrize("device", devices())
def test_every_call_works_once_on_its_own_tensors(device):
    generator = torch.Generator().manual_seed(1)
    plain, expected = make_function()
    step, weight = make_function()
    if device == "cuda":
        weight.data = weight.data.cuda()
    graphs = CudaGraphs() if device == "cuda" else RepeatedCalls()
    graphed = GraphedFunction(step, graphs)
    for rows, key in [(4, 1.0), (4, 2.0), (2, 1.0), (4, 1.0), (4, 2.0), (4, 1.0), (2, 1.0), (2, 1.0)]:
        values, factors = torch.randn(2, rows, 3, generator=generator)
        result = graphed(values.to(device), factors.to(device), key=key).item()
        assert result == pytest.approx(plain(values, factors, key=key).item(), abs=1e-5)
    torch.testing.assert_close(weight.cpu(), expected)
    if device == "cpu":
        assert (graphs.warmed, graphs.captured) == (3, 3)  # one of each kind of call


def test_the_tensors_of_the_caller_are_neither_kept_nor_changed():
    step, _ = make_function()
    graphed = GraphedFunction(step, RepeatedCalls())
    values, factors = torch.ones(2, 4, 3)
    for _ in range(3):
        graphed(values, factors, key=1.0)
    assert torch.equal(values, torch.ones(4, 3)) and graphed.inputs[((4, 3), (4, 3))][0] is not values
