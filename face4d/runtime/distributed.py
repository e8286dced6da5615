"""Training by several processes (``torchrun``): each takes a share of every batch, all end with the weights of one
process.

The gradients of a step go through one all-reduce of a single flat tensor, which also carries the loss.

DistributedDataParallel was tried in place of it: gloo, two processes, batches of 25 in shares of 12 and 13, the fast
engine, 20 steps. It averages over processes, so the loss of a share is scaled by its weight times their number; then it
ends with the same weights as one process, as close as the reduction here does (largest difference 6e-17 for the thesis'
network in float64, 1.5e-8 for the default one in float32). Steps of the two in turn, in the same processes, take as
long: median 1.36 s here and 1.27 s with it (thesis, 40 frames), 0.23 and 0.25 s (default), on two busy cores. It is not
used because the code does not get shorter: it would save :func:`reduce_gradients` and :func:`broadcast_weights`, 16
lines, and ask for a second module beside the network (parameters are called ``module...`` in its state dict), a second
all-reduce for the loss and the same shares, agreements and interrupts as now. Nor has it anything to overlap: all
weight gradients of an unrolled sequence come from one node, at the end of the backward pass.

Files of a run are read and written by rank 0 only. Without ``WORLD_SIZE`` in the environment, or with 1, there is no
process group and every function here is the plain single-process operation.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from face4d.errors import InputError

Result = TypeVar("Result")


def init_from_environment() -> None:
    """Join the process group that ``torchrun`` describes in the environment; nothing without it.

    Tensors on the CPU travel by gloo, those on a GPU by NCCL.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        # Its default arguments are the group that exists when it is imported (an optimiser does so at its first step).
        # Such a group would outlive leave() until the interpreter ends, where its threads now and then abort the
        # process.
        importlib.import_module("torch.distributed.nn.functional")
        on_gpu = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")


def leave() -> None:
    """Leave the process group, at the end of a run that went well."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, 0 for a single one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process prints and writes files."""
    return rank() == 0


def local_device(device: torch.device) -> torch.device:
    """This process's own device: with several processes on one machine, the GPU of its local rank.

    Raises:
        InputError: fewer GPUs than processes on this machine.
    """
    if world_size() == 1 or device.type != "cuda":
        return device
    number, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= found:
        raise InputError("--nproc-per-node", f"at most {found}, one process per GPU", f"process {number + 1}")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def describe(device: torch.device) -> str:
    """The device and, where there are several, the number of processes: ``cpu`` or ``8 x cuda``."""
    return str(device) if world_size() == 1 else f"{world_size()} x {device.type}"


class Share(NamedTuple):
    """This process's part of a batch.

    Attributes:
        rows: its rows, never none.
        weight: rows / all rows. The sum over processes of weight x mean loss is the mean over the whole batch; 0 where
            there are more processes than rows, for a row that another process has too.
    """

    rows: slice
    weight: float


WHOLE = Share(slice(None), 1.0)


def share(count: int) -> Share:
    """This process's part of a batch of ``count`` rows: consecutive rows, equal numbers or one more."""
    size, number = world_size(), rank()
    begin, end = count * number // size, count * (number + 1) // size
    if begin == end:
        return Share(slice(0, 1), 0.0)
    return Share(slice(begin, end), (end - begin) / count)


def backward(loss: Tensor, parameters: Iterable[nn.Parameter], part: Share) -> Tensor:
    """Gradients of the mean loss over the whole batch.

    Args:
        loss: () mean over the rows of ``part``.
        parameters: of the model; their ``grad`` must be None before, and is the same on all processes afterwards.

    Returns:
        () mean over the whole batch, detached.
    """
    if world_size() == 1:
        loss.backward()
        return loss.detach()
    loss = loss * part.weight
    loss.backward()
    return reduce_gradients(parameters, loss.detach())


def reduce_gradients(parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Sum the gradients and a loss () over all processes, in one all-reduce; returns the sum of the losses."""
    if world_size() == 1:
        return loss
    trained = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for _, gradient in trained), loss.reshape(1)])
    dist.all_reduce(flat)
    pieces = flat[:-1].split([parameter.numel() for parameter, _ in trained])
    for (parameter, _), piece in zip(trained, pieces):
        parameter.grad = piece.view_as(parameter)
    return flat[-1]


def total(value: Tensor) -> Tensor:
    """The sum of ``value`` over all processes."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def any_rank(flag: bool) -> bool:
    """Whether ``flag`` is true in any process."""
    if world_size() == 1:
        return flag
    flags = torch.tensor(int(flag))
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def broadcast_weights(model: nn.Module) -> None:
    """Give all processes the parameters and buffers of rank 0 (processors of another make may round an initialisation
    differently).
    """
    if world_size() > 1:
        for value in model.state_dict().values():
            whole = value.contiguous()
            dist.broadcast(whole, 0)
            value.copy_(whole)


def from_main(function: Callable[[], Result]) -> Result:
    """What ``function()`` gives in rank 0, handed to all processes; the others do not call it.

    Args:
        function: returns plain data or tensors on the CPU.

    Raises:
        InputError: raised by ``function`` in rank 0; the other processes leave with the same exit code, silently.
    """
    if world_size() == 1:
        return function()
    result: list[Any] = [None]
    with agreement():
        if is_main():
            result[0] = function()
    dist.broadcast_object_list(result, src=0, device=torch.device("cpu"))
    return result[0]


@contextmanager
def agreement() -> Iterator[None]:
    """All processes pass, or none does: an exception in one ends all.

    There must be no communication within the block.

    Raises:
        InputError: the first that any process met, in rank 0.
        SystemExit: in the others, without a word. An exception of another kind is raised in the process it comes from.
    """
    if world_size() == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except Exception as caught:  # sent to the others, then raised again
        error = caught
    sent: list[Exception | str | None] = [None] * world_size()
    dist.all_gather_object(sent, error if isinstance(error, InputError) else error and type(error).__name__)
    known = [found for found in sent if found is not None]
    if not known:
        return
    atexit.register(leave)  # not now: rank 0 must first have said what is wrong, and leaving lets the others go
    if error is not None and not isinstance(error, InputError):
        raise error
    bad_input = [found for found in known if isinstance(found, InputError)]
    if bad_input and is_main():
        raise bad_input[0]
    _leave_after(
        0 if bad_input else next(number for number, found in enumerate(sent) if found is not None),
        2 if bad_input else 1,
    )


def interrupt() -> NoReturn:
    """Leave as after Ctrl-C, in all processes at the same place.

    Raises:
        KeyboardInterrupt: in rank 0.
        SystemExit: in the others, once rank 0 has left.
    """
    atexit.register(leave)
    if is_main():
        raise KeyboardInterrupt
    _leave_after(0, 130)


def _leave_after(other: int, code: int) -> NoReturn:
    """Leave when process ``other`` has: torchrun kills all as soon as one leaves, and that one has an error to print or
    a file to finish.
    """
    with suppress(RuntimeError):  # of a connection that was closed
        dist.recv(torch.zeros(()), src=other)
    sys.exit(code)


def require_equal(path: str | os.PathLike[str], what: str, value: object) -> None:
    """Raise an :class:`InputError` where ``value`` (plain data) is not the same in all processes."""
    if world_size() == 1:
        return
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    with agreement():
        for number, other in enumerate(values):
            if other != values[0]:
                raise InputError(path, f"the same {what} in all processes", f"another in process {number}")
