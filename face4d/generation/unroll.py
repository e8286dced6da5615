"""The recurrence of the LSTMCell generators over all frames at once: same mathematics, few large operations, backward by hand.

One step of an unroll of T frames, with y the frame fed back (S numbers) and h, c the LSTM state (H numbers each):

    gates  p_t = gate_code_t + W_y y_{t-1} + W_h h_{t-1};  i, f, o = sigmoid(p_i, p_f, p_o),  g = tanh(p_g)
    state  c_t = f c_{t-1} + i g;  h_t = o tanh(c_t)
    frame  a_t = relu(inner_code_t + W_1 h_t);  y_t = W_2 a_t + b_2

(Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000 and the gate order i, f, g, o of ``torch.nn.LSTMCell``).
The codes hold all that is known before the first step: biases, label, position in time. Plain autograd builds a graph of some
twenty nodes per step and one small weight gradient for each; here a single :class:`torch.autograd.Function` keeps the
activations in four stacks and takes every weight gradient as one product over all steps.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# From this many weights on oneDNN overtakes the default product (measured on AMD cores, benchmarks/unroll.py). A constant and no
# timing at run time, so that equal runs give equal bits.
ONEDNN_WEIGHTS = 2**17


class Product:
    """x @ matrix + addend for one matrix and many x, through oneDNN's linear layer where that is faster than ``addmm``.

    Args:
        matrix: (K, N), in memory by rows or by columns.
        rows: rows B of every x, for which the matrix may be laid out.
    """

    def __init__(self, matrix: Tensor, rows: int) -> None:
        self.onednn = matrix.numel() >= ONEDNN_WEIGHTS and onednn_serves(matrix)
        self.matrix = matrix.t() if self.onednn else matrix  # its layer takes (N, K)
        if self.onednn and not matrix.is_contiguous():
            # A layout of its own pays for the copy within some ten products; a matrix by rows is near it as it is.
            self.matrix = torch.ops.mkldnn._reorder_linear_weight(self.matrix.contiguous(), rows)

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """(rows, N) from x (rows, K) and addend (rows, N) or none."""
        if self.onednn and addend is None:
            return torch.ops.mkldnn._linear_pointwise(x, self.matrix, None, "none", [], "")
        if self.onednn:
            return torch.ops.mkldnn._linear_pointwise.binary(x, addend, self.matrix, None, "add")
        return x @ self.matrix if addend is None else torch.addmm(addend, x, self.matrix)


def onednn_serves(tensor: Tensor) -> bool:
    """Whether oneDNN's linear layer exists in this torch and takes this tensor: float32 on a CPU."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def stacked_product(gradients: Tensor, inputs: Tensor) -> Tensor:
    """Weight gradient of all steps: sum over t, b of gradients[t, b] inputs[t, b]^T, (N, K) from (T, B, N) and (T, B, K)."""
    # This order, and a transposed result, is up to 1.3 times faster than gradients^T @ inputs.
    return (inputs.flatten(0, 1).t() @ gradients.flatten(0, 1)).t()


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

    Differentiable once in every tensor. Without gradients (``torch.no_grad()``) nothing is kept but the frames.

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
    tensors = (frame, hidden, cell, gate_code, inner_code, frame_weight, hidden_weight, inner_weight, output_weight, output_bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return Unroll.apply(frames, *tensors)
    return run_steps(frames, False, *tensors)[0]


def run_steps(
    frames: int,
    keep: bool,
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
) -> tuple[Tensor, ...]:
    """The forward loop; arguments as :func:`unroll`.

    Returns:
        Generated frames (B, T, S) and, complete only if ``keep``, the stacks of every step: inputs [y_t, h_t] (T+1, B, S+H),
        activated gates (T, B, 4H), cells c_t (T+1, B, H), their tanh (T, B, H), inner layer a_t (T, B, H); last [W_y, W_h].
    """
    (batch, size), width = frame.shape, hidden.shape[1]
    slots = frames if keep else 1  # without keeping, every step overwrites the one before
    inputs = frame.new_empty(slots + 1, batch, size + width)
    gates = frame.new_empty(slots, batch, 4 * width)
    cells = frame.new_empty(slots + 1, batch, width)
    cell_tanhs, inners = frame.new_empty(2, slots, batch, width)
    inputs[0, :, :size], inputs[0, :, size:], cells[0] = frame, hidden, cell

    input_weight = torch.cat([frame_weight, hidden_weight], dim=1)  # (4H, S + H)
    to_gates = Product(input_weight.t(), batch)
    to_inner, to_frame = Product(inner_weight.t(), batch), Product(output_weight.t(), batch)
    output_bias = output_bias.expand(batch, -1).contiguous()  # (B, S)
    generated = []
    for t in range(frames):
        now, after = t % len(cells), (t + 1) % len(cells)
        raw = to_gates(inputs[now], gate_code[t % len(gate_code)])  # (B, 4H)
        gate, slot = gates[t % slots], t % slots
        torch.sigmoid(raw[:, : 2 * width], out=gate[:, : 2 * width])
        torch.tanh(raw[:, 2 * width : 3 * width], out=gate[:, 2 * width : 3 * width])
        torch.sigmoid(raw[:, 3 * width :], out=gate[:, 3 * width :])
        write, forget, candidate, read = gate.chunk(4, dim=1)  # i, f, g, o: (B, H) each
        torch.mul(forget, cells[now], out=cells[after]).addcmul_(write, candidate)
        torch.tanh(cells[after], out=cell_tanhs[slot])
        hidden = torch.mul(read, cell_tanhs[slot], out=inputs[after, :, size:])
        torch.clamp(to_inner(hidden, inner_code[t % len(inner_code)]), min=0, out=inners[slot])
        generated.append(to_frame(inners[slot], output_bias))  # (B, S)
        inputs[after, :, :size] = generated[-1]
    return torch.stack(generated, dim=1), inputs, gates, cells, cell_tanhs, inners, input_weight


class Unroll(torch.autograd.Function):
    """:func:`unroll` with its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, frames: int, *tensors: Tensor) -> Tensor:
        generated, *stacks = run_steps(frames, True, *tensors)
        inner_weight, output_weight = tensors[7:9]
        ctx.code_lengths = [len(code) for code in tensors[3:5]]
        ctx.save_for_backward(*stacks, inner_weight, output_weight)
        return generated

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_generated: Tensor) -> tuple[Tensor | None, ...]:
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
        d_frames = grad_generated.transpose(0, 1).contiguous()  # (T, B, S)

        from_gates = Product(input_weight, batch)
        from_inner, from_frame = Product(inner_weight, batch), Product(output_weight, batch)
        d_cell = torch.zeros_like(cells[0])
        d_inputs = torch.zeros_like(inputs[0])  # what the later steps say about [y_t, h_t]
        for t in reversed(range(frames)):
            d_frame = d_frames[t].add_(d_inputs[:, :size])
            torch.ops.aten.threshold_backward(from_frame(d_frame), inners[t], 0, grad_input=d_inners[t])
            d_hidden = from_inner(d_inners[t], d_inputs[:, size:].contiguous())
            d_cell.addcmul_(d_hidden, cell_slope[t])
            d_gates[t, :, : 3 * width].unflatten(1, (3, width)).mul_(d_cell[:, None])
            d_gates[t, :, 3 * width :].mul_(d_hidden)
            d_cell.mul_(forget[t])
            d_inputs = from_gates(d_gates[t])

        d_input_weight = stacked_product(d_gates, inputs[:-1])  # (4H, S + H)
        d_codes = [
            d_code if length == frames else d_code.sum(0, keepdim=True) for d_code, length in zip((d_gates, d_inners), ctx.code_lengths, strict=True)
        ]
        return (
            None,
            d_inputs[:, :size],
            d_inputs[:, size:],
            d_cell,
            *d_codes,
            *d_input_weight.split([size, width], dim=1),
            stacked_product(d_inners, inputs[1:, :, size:]),
            stacked_product(d_frames, inners),
            d_frames.sum((0, 1)),
        )
