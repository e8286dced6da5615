"""Devices, seeds, and functions of tensors as CUDA graphs.

A step of thousands of small kernels is launched as one graph, so that the processor no longer limits it.
"""

from __future__ import annotations

import ctypes
import os
import random
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from face4d.errors import InputError
from face4d.runtime import distributed
from face4d.runtime.config import TrainingConfig

Network = TypeVar("Network", bound=torch.nn.Module)


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device of ``--device``: ``auto`` takes CUDA when there is one.

    Raises:
        InputError: ``cuda`` was asked for and is not usable.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda", "a CUDA device that torch can use", "none (try --device cpu)")
    return torch.device(name)


def describe(device: torch.device) -> str:
    """Hardware name for records, e.g. ``NVIDIA H200`` or ``cpu, 2 threads``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def seed_everything(seed: int) -> torch.Generator:
    """Seed python, numpy and torch (layer initialisation draws from torch's), and return a CPU generator of the same
    seed.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (whoever draws from numpy's own state)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def limit_threads(threads: int | None, *, small: bool) -> None:
    """Set the CPU threads: as asked, those of numpy's and scipy's BLAS too; else torch's to one where the work is
    ``small``.

    Steps of tens of microseconds gain nothing from a second thread, and where other programs use the cores, waiting for
    one costs several times the step.
    """
    if threads is not None or small:
        torch.set_num_threads(threads or 1)
    if threads is not None:
        threadpool_limits(threads)  # of the libraries that are loaded, the environment of those that will be
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)))


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 numbers; elsewhere each is converted first. True
    where it is not known.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            words = set(file.read().split())
    except OSError:
        return True
    return not words or bool(words & {"amx_bf16", "avx512_bf16", "bf16"})


def autocast(config: TrainingConfig, device: torch.device) -> AbstractContextManager[None]:
    """The context for a forward pass in the configuration's precision."""
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


def keep_freed_memory() -> None:
    """Let the C library keep large freed blocks instead of returning each to the system (glibc; elsewhere nothing
    happens).

    A training step frees and takes the same megabytes again and again, and by default each comes back as pages that the
    system has to clear and map: a quarter of the time of a step. Call before the first large tensor. See mallopt(3).
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def channels_last(network: Network) -> Network:
    """The network, whose four-dimensional weights now lie in memory with the channels last, as convolutions like
    them.
    """
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's annotations


Call = Callable[[], Tensor]


class CudaGraphs:
    """How calls become CUDA graphs. All share one pool of memory, so they must be replayed one after the other."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, call: Call) -> Tensor:
        """The call itself, on a stream that is not the default one, where libraries set themselves up as a capture
        needs them.
        """
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

    The first call of a kind runs as it is, the second is captured, and then replayed like all later ones. Every call
    does its work exactly once, so a training step may be such a function.

    Args:
        function: ``function(*tensors, key=key)``. Whatever else it reads or changes (weights, optimiser state) must
            stay where it is in memory, and nothing in it may wait for the device. What it returns is valid until the
            next call.
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


def graphed(device: torch.device) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorator of an optimiser step ``step(*tensors, key=key)``: on a GPU it becomes a :class:`GraphedFunction`,
    elsewhere it stays.

    Where several processes share a step it stays too: their all-reduce is no part of a graph. The optimiser has to be
    :func:`adam`'s.
    """
    if device.type != "cuda" or distributed.world_size() > 1:
        return lambda step: step
    return lambda step: GraphedFunction(step, CudaGraphs())


def adam(network: nn.Module, lr: float, device: torch.device) -> torch.optim.Adam:
    """Adam; on a GPU its learning rate and its count of steps are kept there, as a graph of its step needs them."""
    on_gpu = device.type == "cuda"
    rate = torch.tensor(lr, device=device) if on_gpu else lr
    return torch.optim.Adam(network.parameters(), lr=rate, fused=True, capturable=on_gpu)
