"""Functions of tensors as CUDA graphs: a step of thousands of small kernels is launched as one, and the processor no longer limits it."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

Call = Callable[[], Tensor]


class CudaGraphs:
    """How calls become CUDA graphs. All share one pool of memory, so they must be replayed one after the other."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, call: Call) -> Tensor:
        """The call itself, on a stream that is not the default one, where libraries set themselves up as a capture needs them."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = call()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def capture(self, call: Call) -> Call:
        """A call that repeats this one, which itself is not carried out."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            result = call()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


class GraphedFunction:
    """A function of tensors on a GPU that is replayed as a CUDA graph from its second call of a kind on.

    The first call of a kind runs as it is, the second is captured, and then replayed like all later ones. Every call does its work
    exactly once, so a training step may be such a function.

    Args:
        function: ``function(*tensors, key=key)``. Whatever else it reads or changes (weights, optimiser state) must stay where it is in
            memory, and nothing in it may wait for the device. What it returns is valid until the next call.
        graphs: how calls become graphs; something with the methods of :class:`CudaGraphs`.
    """

    def __init__(self, function: Callable[..., Tensor], graphs: CudaGraphs) -> None:
        self.function, self.graphs = function, graphs
        self.inputs: dict[tuple, list[Tensor]] = {}  # where the graphs of calls with these shapes read
        self.replays: dict[tuple, Call | None] = {}  # None: called once

    def __call__(self, *tensors: Tensor, key: Hashable) -> Tensor:
        """``function(*tensors, key=key)``; ``key`` and the shapes make the kind of the call."""
        shapes = tuple(tensor.shape for tensor in tensors)
        if shapes not in self.inputs:
            self.inputs[shapes] = [torch.empty_like(tensor) for tensor in tensors]
        static = self.inputs[shapes]
        for place, tensor in zip(static, tensors, strict=True):
            place.copy_(tensor)

        def call() -> Tensor:
            return self.function(*static, key=key)

        kind = (key, shapes)
        if kind not in self.replays:
            self.replays[kind] = None
            return self.graphs.warm_up(call)
        replay = self.replays[kind] or self.graphs.capture(call)
        self.replays[kind] = replay
        return replay()
