"""The recurrence of the LSTMCell generators over all frames at once: same mathematics, few large operations, backward
by hand.

One step of an unroll of T frames, with y the frame fed back (S numbers) and h, c the LSTM state (H numbers each):

    gates  p_t = gate_code_t + W_y y_{t-1} + W_h h_{t-1};  i, f, o = sigmoid(p_i, p_f, p_o),  g = tanh(p_g)
    state  c_t = f c_{t-1} + i g;  h_t = o tanh(c_t)
    frame  a_t = relu(inner_code_t + W_1 h_t);  y_t = W_2 a_t + b_2

(Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000 and the gate order i, f, g, o of
``torch.nn.LSTMCell``). The codes hold all that is known before the first step: biases, label, position in time. Plain
autograd builds a graph of some twenty nodes per step and one small weight gradient for each; here a single
:class:`torch.autograd.Function` keeps the activations in four stacks and takes every weight gradient as one product
over all steps.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:  # which import this module
    from face4d.generation.lstm import ThesisGenerator
    from face4d.generation.recurrence import CoefficientRecurrence

# From this many weights on oneDNN overtakes the default product (measured on AMD cores, benchmarks/unroll.py). A
# constant and no timing at run time, so that equal runs give equal bits.
ONEDNN_WEIGHTS = 2**17


def unroll_thesis(network: ThesisGenerator, start: Tensor, labels: Tensor, frames: int) -> Tensor:
    """What :meth:`face4d.generation.lstm.ThesisGenerator.forward` says, arguments and result as there."""
    # (B, 3L), fc_enc of a one-hot vector
    label_code = functional.embedding(labels, network.fc_enc.weight.t()) + network.fc_enc.bias
    frame = start.flatten(1)  # (B, 3L)
    lstm = network.lstm
    frame_weight, label_weight = lstm.weight_ih.chunk(2, dim=1)  # (4H, 3L) each
    generated = unroll(
        frames,
        frame,
        network.fc_inh(frame),
        network.fc_inc(frame),
        functional.linear(label_code, label_weight, lstm.bias_ih + lstm.bias_hh)[None],  # (1, B, 4H)
        network.fc_1.bias.expand(1, len(frame), -1),  # (1, B, H)
        frame_weight,
        lstm.weight_hh,
        network.fc_1.weight,
        network.fc_2.weight,
        network.fc_2.bias,
    )
    return generated.unflatten(2, start.shape[1:])  # (B, T, L, 3)


def unroll_coefficients(network: CoefficientRecurrence, start: Tensor, labels: Tensor, code: Tensor) -> Tensor:
    """What :meth:`face4d.generation.recurrence.CoefficientRecurrence.recurrence` says, arguments and result as
    there.
    """
    label_code = network.fc_enc(labels)  # (B, E)
    frame = network.encoded(start)  # (B, K)
    hidden, cell = network.fc_init(torch.cat([frame, label_code], dim=1)).tanh().chunk(2, dim=1)  # (B, H) each
    components, label_size, position_size = frame.shape[1], label_code.shape[1], code.shape[2]

    def codes(label_weight: Tensor, position_weight: Tensor, bias: Tensor) -> Tensor:
        """(T, B, N): what label and position give to a layer."""
        return functional.linear(code, position_weight) + functional.linear(label_code, label_weight, bias)

    lstm, fc_1, fc_2 = network.lstm, network.fc_1, network.fc_2
    frame_weight, gate_of_label, gate_of_position = lstm.weight_ih.split([components, label_size, position_size], dim=1)
    inner_weight, inner_of_label, inner_of_position = fc_1.weight.split(
        [hidden.shape[1], label_size, position_size], dim=1
    )
    return unroll(
        len(code),
        frame,
        hidden,
        cell,
        codes(gate_of_label, gate_of_position, lstm.bias_ih + lstm.bias_hh),  # (T, B, 4H)
        codes(inner_of_label, inner_of_position, fc_1.bias),  # (T, B, H)
        frame_weight,
        lstm.weight_hh,
        inner_weight,
        fc_2.weight,
        fc_2.bias,
    )  # (B, T, K)


class Product:
    """x @ matrix + addend for one matrix and many x, through oneDNN's linear layer where that is faster than ``addmm``.

    Args:
        matrix: (K, N) float, in memory by rows or by columns.
        rows: rows B of every x, for which the matrix may be laid out.
        dtype: x and matrix are rounded to it first (bfloat16); addend and result keep their own. None = nothing is
            rounded.
    """

    def __init__(self, matrix: Tensor, rows: int, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        if dtype is not None:
            self.onednn, self.matrix = False, matrix.to(dtype)
            return
        self.onednn = matrix.numel() >= ONEDNN_WEIGHTS and onednn_serves(matrix)
        self.matrix = matrix.t() if self.onednn else matrix  # its layer takes (N, K)
        if self.onednn and not matrix.is_contiguous():
            # A layout of its own pays for the copy within some ten products; from a matrix by rows the copy costs more
            # than it saves.
            self.matrix = torch.ops.mkldnn._reorder_linear_weight(self.matrix.contiguous(), rows)

    def __call__(self, x: Tensor, addend: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
        """(rows, N) from x (rows, K) and addend (rows, N), (N,) or none; written to ``out`` if there is one."""
        if self.dtype is not None:
            product = (x.to(self.dtype) @ self.matrix).to(x.dtype)
            product = product if addend is None else product.add_(addend)
        elif not self.onednn:
            return torch.mm(x, self.matrix, out=out) if addend is None else torch.addmm(addend, x, self.matrix, out=out)
        elif addend is None or addend.dim() == 1:
            product = torch.ops.mkldnn._linear_pointwise(x, self.matrix, addend, "none", [], "")
        else:
            product = torch.ops.mkldnn._linear_pointwise.binary(x, addend, self.matrix, None, "add")
        return product if out is None else out.copy_(product)


def onednn_serves(tensor: Tensor) -> bool:
    """Whether oneDNN's linear layer exists in this torch, takes this tensor (float32 on a CPU) and is the faster one
    here.
    """
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and not mkl_is_at_home()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


@functools.cache
def mkl_is_at_home() -> bool:
    """Whether torch's default product is MKL on an Intel processor, where it needs no copy of the weights to be as fast
    as oneDNN.
    """
    try:
        return torch.backends.mkl.is_available() and "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def stacked_product(gradients: Tensor, inputs: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Weight gradient of all steps: sum over t, b of gradients[t, b] inputs[t, b]^T, (N, K) from (T, B, N) and (T, B,
    K).

    Args:
        dtype: both are rounded to it first; None = they are not.
    """
    return (gradients.flatten(0, 1).to(dtype).t() @ inputs.flatten(0, 1).to(dtype)).to(gradients.dtype)


def unroll(
    frames: int,
    frame: Tensor,
    hidden: Tensor,
    cell: Tensor,
    gate_code: Tensor,
    inner_code: Tensor,
    frame_weight: Tensor,
    hidden_weight: Tensor,
    inner_weight: Tensor,
    output_weight: Tensor,
    output_bias: Tensor,
) -> Tensor:
    """Frames 1..T of the recurrence at the top of this module.

    Differentiable once in every tensor. Without gradients (``torch.no_grad()``) nothing is kept but the frames. Under
    ``torch.autocast`` the factors of the products are rounded to its type, also in the backward pass; sums over time,
    states and results stay float32.

    Args:
        frames: T, at least 1.
        frame: (B, S) y_0.
        hidden: (B, H) h_0.
        cell: (B, H) c_0.
        gate_code: (T, B, 4H) or, the same at all times, (1, B, 4H).
        inner_code: (T, B, H) or (1, B, H).
        frame_weight: (4H, S) W_y.
        hidden_weight: (4H, H) W_h.
        inner_weight: (H, H) W_1.
        output_weight: (S, H) W_2.
        output_bias: (S,) b_2.

    Returns:
        (B, T, S).
    """
    tensors: tuple[Tensor, ...] = (
        frame,
        hidden,
        cell,
        gate_code,
        inner_code,
        frame_weight,
        hidden_weight,
        inner_weight,
        output_weight,
        output_bias,
    )
    device_type = frame.device.type
    dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None
    with torch.autocast(device_type, enabled=False):
        if dtype is not None:  # layers before this one have given some of the tensors in it
            tensors = tuple(tensor.float() for tensor in tensors)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return Unroll.apply(frames, dtype, *tensors)
        return run_steps(frames, dtype, False, *tensors)[0]


def run_steps(frames: int, dtype: torch.dtype | None, keep: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The forward loop; tensors as those of :func:`unroll`, in that order.

    Returns:
        Generated frames (B, T, S) and, complete only if ``keep``, the stacks of every step: inputs [y_t, h_t] (T+1, B,
        S+H), activated gates (T, B, 4H), cells c_t (T+1, B, H), their tanh (T, B, H), inner layer a_t (T, B, H); last
        [W_y, W_h].
    """
    (
        frame,
        hidden,
        cell,
        gate_code,
        inner_code,
        frame_weight,
        hidden_weight,
        inner_weight,
        output_weight,
        output_bias,
    ) = tensors
    (batch, size), width = frame.shape, hidden.shape[1]
    slots = frames if keep else 1  # without keeping, every step overwrites the one before
    generated = frame.new_empty(frames, batch, size)
    inputs = frame.new_empty(slots + 1, batch, size + width)
    gates = frame.new_empty(slots, batch, 4 * width)
    cells = frame.new_empty(slots + 1, batch, width)
    cell_tanhs, inners = frame.new_empty(2, slots, batch, width)
    inputs[0, :, :size], inputs[0, :, size:], cells[0] = frame, hidden, cell

    input_weight = torch.cat([frame_weight, hidden_weight], dim=1)  # (4H, S + H)
    to_gates, to_inner, to_frame = (
        Product(weight.t(), batch, dtype) for weight in (input_weight, inner_weight, output_weight)
    )
    # The views of all steps at once: taken one by one they cost as much time as some of the arithmetic.
    gate_code_at, inner_code_at, generated_at = gate_code.unbind(), inner_code.unbind(), generated.unbind()
    state_views = list(
        zip(*(stack.unbind() for stack in (inputs, *inputs.split([size, width], dim=2), cells)), strict=True)
    )
    slot_views = list(
        zip(*(stack.unbind() for stack in (gates, *gates.chunk(4, dim=2), cell_tanhs, inners)), strict=True)
    )
    for t in range(frames):
        # i, f, g, o and the last two (B, H) each
        gate, write, forget, candidate, read, cell_tanh, inner = slot_views[t % slots]
        now, _, _, cell = state_views[t % len(state_views)]
        _, frame_after, hidden_after, cell_after = state_views[(t + 1) % len(state_views)]
        raw = to_gates(now, gate_code_at[t % len(gate_code_at)])  # (B, 4H)
        torch.sigmoid(raw, out=gate)  # g with the others: cheaper than two calls that leave it out
        torch.tanh(raw[:, 2 * width : 3 * width], out=candidate)
        torch.mul(forget, cell, out=cell_after).addcmul_(write, candidate)
        torch.tanh(cell_after, out=cell_tanh)
        torch.mul(read, cell_tanh, out=hidden_after)
        to_inner(hidden_after, inner_code_at[t % len(inner_code_at)], out=inner).relu_()
        frame_after.copy_(to_frame(inner, output_bias, out=generated_at[t]))
    return generated.transpose(0, 1), inputs, gates, cells, cell_tanhs, inners, input_weight


class Unroll(torch.autograd.Function):
    """:func:`unroll` with its gradient."""

    @staticmethod
    def forward(ctx: Any, frames: int, dtype: torch.dtype | None, *tensors: Tensor) -> Tensor:
        generated, *stacks = run_steps(frames, dtype, True, *tensors)
        ctx.dtype = dtype
        inner_weight, output_weight = tensors[7:9]
        ctx.code_lengths = [len(code) for code in tensors[3:5]]
        ctx.save_for_backward(*stacks, inner_weight, output_weight)
        return generated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_generated: Tensor) -> tuple[Tensor | None, ...]:
        """Backward through time; ``d_x`` is the gradient of the loss with respect to x."""
        inputs, gates, cells, cell_tanhs, inners, input_weight, inner_weight, output_weight = ctx.saved_tensors
        frames, batch, width = cell_tanhs.shape
        size = inputs.shape[2] - width

        # What d_c and d_h are multiplied by, for all steps at once; d_gates starts as dc/dp (i, f, g) and dh/dp (o).
        write, forget, candidate, read = gates.chunk(4, dim=2)  # (T, B, H) each
        d_gates = torch.empty_like(gates)
        d_write, d_forget, d_candidate, d_read = d_gates.chunk(4, dim=2)
        torch.ops.aten.sigmoid_backward(candidate, write, grad_input=d_write)
        torch.ops.aten.sigmoid_backward(cells[:-1], forget, grad_input=d_forget)
        torch.ops.aten.tanh_backward(write, candidate, grad_input=d_candidate)
        torch.ops.aten.sigmoid_backward(cell_tanhs, read, grad_input=d_read)
        cell_slope = torch.ops.aten.tanh_backward(read, cell_tanhs)  # dh/dc
        d_inners = torch.empty_like(inners)
        d_frames = grad_generated.transpose(0, 1).clone(memory_format=torch.contiguous_format)  # (T, B, S)

        from_gates, from_inner, from_frame = (
            Product(weight, batch, ctx.dtype) for weight in (input_weight, inner_weight, output_weight)
        )
        d_input = torch.zeros_like(inputs[0])  # what the later steps say about [y_t, h_t]
        d_frame_later, d_hidden_later = d_input.split([size, width], dim=1)
        d_cell = torch.zeros_like(cells[0])
        d_cell_of_three = d_cell[:, None]  # (B, 1, H), for i, f, g
        d_three = d_gates[:, :, : 3 * width].unflatten(2, (3, width))  # (T, B, 3, H)
        stacks = (d_frames, d_inners, d_gates, d_three, d_read, inners, cell_slope, forget)
        views = list(zip(*(stack.unbind() for stack in stacks), strict=True))
        for d_frame, d_inner, d_gate, d_three_t, d_read_t, inner, slope, forget_t in reversed(views):
            from_frame(d_frame.add_(d_frame_later), out=d_inner)
            torch.ops.aten.threshold_backward(d_inner, inner, 0, grad_input=d_inner)
            d_hidden = from_inner(d_inner, d_hidden_later)  # (B, H)
            d_cell.addcmul_(d_hidden, slope)
            d_three_t.mul_(d_cell_of_three)
            d_read_t.mul_(d_hidden)
            d_cell.mul_(forget_t)
            from_gates(d_gate, out=d_input)

        d_codes = [
            d_code if length == frames else d_code.sum(0, keepdim=True)
            for d_code, length in zip((d_gates, d_inners), ctx.code_lengths, strict=True)
        ]
        return (
            None,
            None,
            d_frame_later,
            d_hidden_later,
            d_cell,
            *d_codes,
            *(stacked_product(d_gates, part, ctx.dtype) for part in inputs[:-1].split([size, width], dim=2)),
            stacked_product(d_inners, inputs[1:, :, size:], ctx.dtype),
            stacked_product(d_frames, inners, ctx.dtype),
            d_frames.sum((0, 1)),
        )
