"""Sparse2Dense: spiral convolutions, the decoder made of them, its loss, and the published weights.

With the features x_u of the coarse vertices u, a vertex v of the finer level gets (Otberdout et al., CVPR 2022)

    y_v = b + sum over j of W_j (sum over u of U[s(v, j), u] x_u)

where s(v, j) is the j-th vertex of its spiral and U the upsampling. Everything is linear, so W_j x_u can be taken
first, once for each coarse vertex, and mixed afterwards by the fixed sparse matrix S[v, (j, u)] = U[s(v, j), u]. That
is a quarter of the multiplications of the convolution at the finer level, and neither the upsampled features nor the
gathered spirals ever exist. The mix of rows is an ``embedding_bag``, the fastest such kernel torch has on CPUs; its
gradient is the same with the transposed matrix, in place of a slow scattered sum.

Features lie as (V, B, C): one row of the mix then is a whole batch.

Sparse2Dense: the spiral decoder from landmark displacements to vertex displacements, its loss, and the published
weights.

Otberdout et al., Sparse to Dense Dynamic 3D Facial Expression Generation, CVPR 2022. Displacements are from the
subject's neutral face; the decoder sees no neutral face and works in the unit it was trained with (metres here).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import elu, embedding_bag

from face4d.constants import NUM_CONTOUR, NUM_LANDMARKS
from face4d.dense.hierarchy import Hierarchy, Step
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding
from face4d.runtime.arrays import load_numbers
from face4d.runtime.checkpoint import PARALLEL, load_weights, without_weights
from face4d.runtime.torch_file import read_torch_file

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
        return embedding_bag(
            self.indices, table, self.offsets, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )


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
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, mix: SparseRows, transposed_mix: SparseRows
    ) -> Tensor:
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
            d_products = ctx.transposed_mix(gradient.reshape(len(gradient), batch * outputs)).view(
                length, coarse * batch, outputs
            )
            d_flat = torch.zeros_like(flat)
            # one after the other: no (k, U B, C_in)
            for d_product, matrix in zip(d_products, weight.view(outputs, length, inputs).unbind(1)):
                d_flat.addmm_(d_product, matrix)
            d_weight = torch.bmm(flat.t().expand(length, -1, -1), d_products).permute(2, 0, 1)  # (C_out, k, C_in)
        return d_flat.view_as(features), d_weight.reshape(weight.shape), gradient.sum(dim=(0, 1)), None, None


def _by_place(weight: Tensor, length: int) -> Tensor:
    """(k, C_in, C_out) from a linear layer's (C_out, k C_in)."""
    return weight.view(len(weight), length, -1).permute(1, 2, 0).contiguous()


_FIRST = "fc_latent_dec.weight"
FILTERS = (128, 64, 32, 32, 16)  # coarsest level first
DISPLACEMENT_WEIGHT = 0.1  # of the unweighted part of the loss

# So many frames at a time without gradients: their products stay in the cache of a CPU core. Graphics processors take
# all at once.
FRAMES_AT_ONCE = 8


class S2DDecoder(nn.Module):
    """The published decoder, name for name: ``fc_latent_dec``, then ``dconv.0.conv`` to ``dconv.4.conv``.

    A linear layer gives 128 features to every vertex of the coarsest level and to a dummy vertex that stands at the
    missing places of spirals. Then, for each finer level: upsampling, spiral convolution, ELU; after the last a spiral
    convolution to three coordinates. As in the original the dummy vertex has its learned features in the first
    convolution and zeros in all others.

    Args:
        hierarchy: five levels in the original; with L levels there are L convolutions, the filters' first L.
        num_landmarks: L.
        filters: channels of the coarsest level and behind every convolution but the last.
    """

    def __init__(
        self, hierarchy: Hierarchy, num_landmarks: int = NUM_LANDMARKS, filters: tuple[int, ...] = FILTERS
    ) -> None:
        super().__init__()
        if len(filters) != len(hierarchy.levels):
            raise ValueError(f"{len(filters)} filters for {len(hierarchy.levels)} levels")
        self.coarsest, self.num_vertices = hierarchy.sizes[-1], hierarchy.sizes[0]
        self.fc_latent_dec = nn.Linear(3 * num_landmarks, (self.coarsest + 1) * filters[0])
        self.dconv = nn.ModuleList()
        steps = list(zip(hierarchy.levels, hierarchy.steps))[::-1]
        for number, ((level, step), inputs, outputs) in enumerate(zip(steps, filters, filters[1:])):
            spirals = level.spirals[:-1]
            coarse = len(step.kept)
            upsampling = upsampling_matrix(step, coarse)
            if number == 0:  # the dummy vertex is a row of its own
                upsampling = sparse.block_diag([upsampling, sparse.identity(1)], format="csr")
            mixing = mixing_matrix(spirals, upsampling.shape[0], upsampling)
            self.dconv.append(SpiralConvolution(mixing, spirals.shape[1], inputs, outputs))
        spirals = hierarchy.levels[0].spirals[:-1]
        self.dconv.append(SpiralConvolution(mixing_matrix(spirals, len(spirals)), spirals.shape[1], filters[-1], 3))

    def forward(self, landmarks: Tensor) -> Tensor:
        """Vertex displacements of landmark displacements.

        Args:
            landmarks: (B, 204) or (B, 68, 3).

        Returns:
            (B, V, 3).
        """
        landmarks = landmarks.flatten(1)  # (B, 3L)
        if torch.is_grad_enabled() or landmarks.device.type != "cpu" or len(landmarks) <= FRAMES_AT_ONCE:
            return self.features(landmarks)[-1].transpose(0, 1).contiguous()  # (B, V, 3)
        displacement = landmarks.new_empty(len(landmarks), self.num_vertices, 3)
        for part, frames in zip(displacement.split(FRAMES_AT_ONCE), landmarks.split(FRAMES_AT_ONCE)):
            part.copy_(self.features(frames)[-1].transpose(0, 1))
        return displacement

    def features(self, landmarks: Tensor) -> list[Tensor]:
        """What every convolution gives, coarsest first, (V_l, B, C_l); the last is the displacement.

        Args:
            landmarks: (B, 204).
        """
        latent = self.fc_latent_dec(landmarks)  # (B, (V_L + 1) C)
        x = latent.view(len(landmarks), self.coarsest + 1, -1).transpose(0, 1)  # (V_L + 1, B, C)
        outputs = []
        for convolution in self.dconv[:-1]:
            x = elu(convolution(x), inplace=True)
            outputs.append(x)
        return [*outputs, self.dconv[-1](x)]


def upsampling_matrix(step: Step, coarse: int) -> sparse.csr_matrix:
    """(V, coarse) barycentric weights as a sparse matrix, without its zeros."""
    rows = np.repeat(np.arange(len(step.corners)), 3)
    matrix = sparse.csr_matrix((step.weights.ravel(), (rows, step.corners.ravel())), shape=(len(step.corners), coarse))
    matrix.eliminate_zeros()
    return matrix


def load_published(path: str | Path, hierarchy: Hierarchy) -> S2DDecoder:
    """The decoder with the weights in the authors' ``checkpoint.pth.tar``.

    The weights may lie at its top or in one of its dictionaries (``autoencoder_state_dict``).

    Raises:
        InputError: missing, unreadable, without these weights, or of another topology.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "a Sparse2Dense checkpoint", "no such file")
    content = read_torch_file(path, "a Sparse2Dense checkpoint")
    places = [content, *content.values()] if isinstance(content, dict) else []
    state = next(
        (place for place in places if isinstance(place, dict) and {_FIRST, PARALLEL + _FIRST} & place.keys()), None
    )
    if state is None:
        raise InputError(path, "a Sparse2Dense checkpoint", f"no {_FIRST} in it")
    with without_weights():  # what is known of the mesh is made
        decoder = S2DDecoder(hierarchy)
    load_weights(decoder, state, path, f"weights for a template of {hierarchy.sizes[0]} vertices", others=True)
    return decoder.eval()


def landmark_weights(vertices: np.ndarray, embedding: LandmarkEmbedding) -> np.ndarray:
    """Weights of the vertices in the loss: 1 at the inner landmarks, falling linearly with the distance to 0 at the
    farthest vertex.

    w_v = 1 - d_v / max d, d_v the distance to the nearest corner of a triangle that carries a static landmark (contour
    points do not count). The published ``Normalized_d_weights.npy`` is 1 at exactly these corners and falls likewise;
    its distances are measured in a way that is not published (correlation with these on the FLAME template: 0.985).

    Args:
        vertices: (V, 3).

    Returns:
        (V,) float32.
    """
    distance = cKDTree(vertices[np.unique(embedding.corners[NUM_CONTOUR:])]).query(vertices)[0]
    return (1 - distance / distance.max()).astype(np.float32)


def read_weights(path: str | Path, num_vertices: int) -> np.ndarray:
    """Weights from a file like ``Normalized_d_weights.npy``: V numbers, or V + 1 with that of the dummy vertex last.

    Returns:
        (V,) float32.

    Raises:
        InputError: unreadable, or of another count.
    """
    weights = load_numbers(path, f"{num_vertices} vertex weights (.npy)")
    if weights.size not in (num_vertices, num_vertices + 1) or not np.isfinite(weights).all():
        raise InputError(path, f"{num_vertices} finite vertex weights", f"shape {weights.shape}")
    return weights.ravel()[:num_vertices].astype(np.float32)


def vertex_weights(template: np.ndarray, embedding: LandmarkEmbedding, path: str | Path | None = None) -> np.ndarray:
    """(V,) weights of the vertices (V, 3) of a template in the loss: those of a file, else :func:`landmark_weights`."""
    return read_weights(path, len(template)) if path else landmark_weights(template, embedding)


def s2d_loss(displacement: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Loss of Sparse2Dense; a sum over some thousand vertices, so it is thousands of times the error.

    mean over batch and xyz of sum_v w_v |target - displacement|_v, plus 0.1 times the mean of |target - displacement|,
    in which the original counts a dummy vertex that is always right.

    Args:
        displacement: (B, V, 3) predicted.
        target: (B, V, 3) target minus neutral.
        weights: (V,).

    Returns:
        Scalar.
    """
    batch, vertices, _ = target.shape
    error = (target - displacement).abs()
    weighted = torch.einsum("bvc,v->", error, weights) / (3 * batch)
    return weighted + DISPLACEMENT_WEIGHT * error.sum() / (3 * batch * (vertices + 1))
