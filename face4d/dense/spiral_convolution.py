"""Spiral convolution with the upsampling before it, as one dense and one sparse product.

With the features x_u of the coarse vertices u, a vertex v of the finer level gets (Otberdout et al., CVPR 2022)

    y_v = b + sum over j of W_j (sum over u of U[s(v, j), u] x_u)

where s(v, j) is the j-th vertex of its spiral and U the upsampling. Everything is linear, so W_j x_u can be taken first, once for each
coarse vertex, and mixed afterwards by the fixed sparse matrix S[v, (j, u)] = U[s(v, j), u]. That is a quarter of the multiplications of the
convolution at the finer level, and neither the upsampled features nor the gathered spirals ever exist. The mix of rows is an
``embedding_bag``, the fastest such kernel torch has on CPUs; its gradient is the same with the transposed matrix, in place of a slow scattered sum.

Features lie as (V, B, C): one row of the mix then is a whole batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

# Below this many output channels a transposed product is faster: its rows are then single channels of a batch.
NARROW = 8


def mixing_matrix(spirals: np.ndarray, size: int, upsampling: sparse.csr_matrix | None = None) -> sparse.csr_matrix:
    """S of the formula at the top of this module.

    Args:
        spirals: (V, k) vertices of the finer level, -1 for none.
        size: V, or V + 1 where the dummy vertex has features, too: the last row of ``upsampling``, which -1 means then.
        upsampling: (size, U); None = the identity.

    Returns:
        (V, k * U) float64.
    """
    upsampling = sparse.identity(size, format="csr") if upsampling is None else upsampling.tocsr()
    spirals = np.where(spirals < 0, size - 1, spirals) if size > len(spirals) else spirals
    vertex, place = np.nonzero(spirals >= 0)
    picked = upsampling[spirals[vertex, place]].tocoo()
    column = place[picked.row] * upsampling.shape[1] + picked.col
    shape = (len(spirals), spirals.shape[1] * upsampling.shape[1])
    return sparse.csr_matrix((picked.data, (vertex[picked.row], column)), shape=shape)


class SparseRows(nn.Module):
    """A fixed sparse matrix A (M, N) whose product mixes rows of a table (N, D)."""

    indices: Tensor
    offsets: Tensor
    values: Tensor

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        super().__init__()
        self.register_buffer("indices", torch.from_numpy(matrix.indices.astype(np.int32)), persistent=False)
        self.register_buffer("offsets", torch.from_numpy(matrix.indptr.astype(np.int32)), persistent=False)
        self.register_buffer("values", torch.from_numpy(matrix.data.astype(np.float32)), persistent=False)

    def forward(self, table: Tensor) -> Tensor:
        """(M, D) = A @ table (N, D)."""
        return embedding_bag(self.indices, table, self.offsets, mode="sum", per_sample_weights=self.values, include_last_offset=True)


class SpiralConvolution(nn.Module):
    """Upsampling, spiral convolution and bias, from coarse features (U, B, C_in) to fine (V, B, C_out).

    The parameters are those of the linear layer ``conv`` that takes the gathered spiral, vertex after vertex.

    Args:
        mixing: (V, k * U), see :func:`mixing_matrix`.
        length: k.
        inputs: C_in.
        outputs: C_out.
    """

    def __init__(self, mixing: sparse.csr_matrix, length: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Linear(length * inputs, outputs)
        self.mix = SparseRows(mixing)
        self.transposed_mix = SparseRows(mixing.T.tocsr())

    def forward(self, features: Tensor) -> Tensor:
        """(V, B, C_out) from features (U, B, C_in)."""
        return _SpiralProduct.apply(features, self.conv.weight, self.conv.bias, self.mix, self.transposed_mix)


class _SpiralProduct(torch.autograd.Function):
    """:class:`SpiralConvolution` with its gradient; the products W_j x_u are not kept."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, mix: SparseRows, transposed_mix: SparseRows) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.transposed_mix = transposed_mix
        coarse, batch, inputs = features.shape
        outputs, length = len(weight), weight.shape[1] // inputs
        flat = features.reshape(coarse * batch, inputs)  # (U B, C_in)
        if outputs < NARROW:
            products = weight.view(outputs, length, inputs).flatten(0, 1) @ flat.t()  # (C_out k, U B)
            channels = [mix(table) for table in products.view(outputs, length * coarse, batch)]  # C_out of (V, B)
            return torch.stack(channels, dim=2) + bias  # (V, B, C_out)
        products = torch.bmm(flat.expand(length, -1, -1), _by_place(weight, length))  # (k, U B, C_out)
        mixed = mix(products.view(length * coarse, batch * outputs))  # (V, B C_out)
        return mixed.view(-1, batch, outputs) + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """``d_x`` is the gradient of the loss with respect to x."""
        features, weight = ctx.saved_tensors
        coarse, batch, inputs = features.shape
        outputs, length = len(weight), weight.shape[1] // inputs
        flat = features.reshape(coarse * batch, inputs)
        if outputs < NARROW:
            channels = gradient.permute(2, 0, 1).contiguous()  # (C_out, V, B)
            d_products = torch.stack([ctx.transposed_mix(channel) for channel in channels])  # (C_out, k U, B)
            d_products = d_products.view(outputs * length, coarse * batch)
            d_flat = d_products.t() @ weight.view(outputs * length, inputs)  # (U B, C_in)
            d_weight = d_products @ flat  # (C_out k, C_in)
        else:
            d_products = ctx.transposed_mix(gradient.reshape(len(gradient), batch * outputs)).view(length, coarse * batch, outputs)
            d_flat = torch.zeros_like(flat)
            for d_product, matrix in zip(d_products, weight.view(outputs, length, inputs).unbind(1)):  # one after the other: no (k, U B, C_in)
                d_flat.addmm_(d_product, matrix)
            d_weight = torch.bmm(flat.t().expand(length, -1, -1), d_products).permute(2, 0, 1)  # (C_out, k, C_in)
        return d_flat.view_as(features), d_weight.reshape(weight.shape), gradient.sum(dim=(0, 1)), None, None


def _by_place(weight: Tensor, length: int) -> Tensor:
    """(k, C_in, C_out) from a linear layer's (C_out, k C_in)."""
    return weight.view(len(weight), length, -1).permute(1, 2, 0).contiguous()
