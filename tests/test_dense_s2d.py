"""The spiral decoder: the reference vectors, its convolution against gathering, gradients, files of weights."""

import functools
import zlib

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from face4d.demo.flame import static_embedding
from face4d.demo.head import demo_head
from face4d.dense.hierarchy import Hierarchy, build_hierarchy, read_downsampling_matrices
from face4d.dense.s2d import (
    FRAMES_AT_ONCE,
    S2DDecoder,
    SpiralConvolution,
    landmark_weights,
    load_published,
    mixing_matrix,
    read_weights,
    s2d_loss,
    upsampling_matrix,
)
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding
from face4d.mesh.ply import read_ply_vertices


def recipe_weights(network):
    """The reference's weights: every entry drawn from a generator seeded with its own name."""
    values = {}
    for name, tensor in network.state_dict().items():
        draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape)).astype(np.float32)
        values[name] = torch.from_numpy(
            draw * np.float32(1 / np.sqrt(np.prod(draw.shape[1:])) if draw.ndim >= 2 else 0.02)
        )
    network.load_state_dict(values)


@pytest.fixture(scope="module")
def small():
    """A hierarchy of 218 vertices."""
    head = demo_head(0)
    level = build_hierarchy(head.mean, head.faces, depth=2).levels[1]
    return build_hierarchy(level.vertices, level.faces, depth=3)


read_once = functools.cache(read_downsampling_matrices)


@pytest.fixture
def published(shared_data):
    return read_once(shared_data / "flame_assets" / "downsampling_matrices.pkl")


def small_decoder(hierarchy, filters=(8, 10, 4)):
    torch.manual_seed(3)
    return S2DDecoder(hierarchy, filters=filters)


def gathered(decoder, hierarchy, landmarks):
    """The network as the paper has it: upsample, gather, linear, with a dummy vertex; (B, V, 3)."""
    x = decoder.fc_latent_dec(landmarks).view(len(landmarks), decoder.coarsest + 1, -1)
    levels = [*range(len(hierarchy.steps))[::-1], 0]
    for number, (level, convolution) in enumerate(zip(levels, decoder.dconv)):
        last = number == len(levels) - 1
        if not last:
            matrix = torch.from_numpy(
                upsampling_matrix(hierarchy.steps[level], hierarchy.sizes[level + 1]).toarray()
            ).to(x)
            x = torch.cat([matrix @ x[:, :-1], x[:, -1:]], dim=1)
        spirals = torch.from_numpy(hierarchy.levels[level].spirals)
        x = linear(x[:, spirals].flatten(2), convolution.conv.weight, convolution.conv.bias)
        x = x if last else torch.nn.functional.elu(x)
        x = torch.cat([x[:, :-1], torch.zeros_like(x[:, -1:])], dim=1)
    return x[:, :-1]


def test_published_spirals_come_of_the_published_matrices(published, reference):
    vectors = reference("c05_spirals")
    assert published.sizes == tuple(vectors["sizes"])
    for number, level in enumerate(published.levels):
        np.testing.assert_array_equal(level.spirals, vectors[f"spirals_level{number}"])


def test_reference_displacements_and_levels_are_met(published, reference):
    vectors = reference("c06_s2d")
    decoder = S2DDecoder(published)
    assert list(decoder.state_dict()) == vectors["param_names"].tolist()
    recipe_weights(decoder)
    landmarks = torch.from_numpy(vectors["landmarks"])
    with torch.no_grad():
        displacement = torch.nn.functional.pad(decoder(landmarks), (0, 0, 0, 1)).numpy()  # the dummy vertex
        levels = decoder.features(landmarks.flatten(1))
    tolerance = 1e-5 * np.abs(vectors["displacement_slice"]).max()
    np.testing.assert_allclose(displacement[0], vectors["displacement_full_sample0"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        displacement[:, vectors["vertex_index"]], vectors["displacement_slice"], rtol=0, atol=tolerance
    )
    for number in range(3):
        expected = vectors[f"level_out{number}_first8"]
        np.testing.assert_allclose(
            levels[number][:8, :, :8].transpose(0, 1).numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )


def test_reference_losses_gradients_and_adam_steps_are_met(published, reference, shared_data):
    vectors, names = reference("c06_s2d"), reference("c04_landmarks")["mesh_names"]
    neutral = np.stack([read_ply_vertices(shared_data / "actors" / f"{name}.ply") for name in names[:2]]).astype(
        np.float32
    )
    target = neutral.copy()
    target[0] += np.float32(0.002) * np.sin(40 * neutral[0][:, [1, 2, 0]])
    target[1] += np.float32(0.003) * np.cos(35 * neutral[1][:, [2, 0, 1]])
    displacement = torch.from_numpy(target - neutral)
    weights = torch.from_numpy(read_weights(shared_data / "flame_assets" / "Normalized_d_weights.npy", 5023))
    decoder = S2DDecoder(published)
    recipe_weights(decoder)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-3, weight_decay=5e-5)
    landmarks = torch.from_numpy(vectors["landmarks"])
    for number, expected in enumerate(vectors["losses"]):
        if number == 3:
            sums = [parameter.detach().double().abs().sum().item() for parameter in decoder.parameters()]
            np.testing.assert_allclose(sums, vectors["params_abssum_after3"], rtol=1e-5)
        optimizer.zero_grad()
        loss = s2d_loss(decoder(landmarks), displacement, weights)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        loss.backward()
        if number == 0:
            sums = [parameter.grad.double().abs().sum().item() for parameter in decoder.parameters()]
            np.testing.assert_allclose(sums, vectors["grad_abssum"], rtol=1e-5)
        optimizer.step()


def test_decoder_equals_gathering_with_its_gradients(small):
    decoder = small_decoder(small).double()
    landmarks = torch.randn(3, 204, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, plain = decoder(landmarks), gathered(decoder, small, landmarks)
    assert ours.shape == (3, 218, 3)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-7)  # the mixing weights are float32
    gradients = [torch.autograd.grad(out.square().sum(), list(decoder.parameters())) for out in (ours, plain)]
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6 * other.abs().max().item())


@pytest.mark.parametrize("outputs", [3, 9])  # either way of the product
def test_gradient_of_the_convolution(small, outputs):
    step, level = small.steps[1], small.levels[1]
    mixing = mixing_matrix(level.spirals[:-1], len(level.vertices), upsampling_matrix(step, small.sizes[2]))
    torch.manual_seed(5)
    convolution = SpiralConvolution(mixing, level.spirals.shape[1], 2, outputs).double()
    features = torch.randn(small.sizes[2], 2, 2, dtype=torch.float64, requires_grad=True)

    def run(features, weight, bias):
        return torch.func.functional_call(convolution, {"conv.weight": weight, "conv.bias": bias}, (features,))[::7]

    parameters = [parameter.detach().requires_grad_() for parameter in (convolution.conv.weight, convolution.conv.bias)]
    assert torch.autograd.gradcheck(run, (features, *parameters), fast_mode=True)


def test_many_frames_without_gradients_are_the_same_as_few(small):
    decoder = small_decoder(small)
    landmarks = 0.01 * torch.randn(2 * FRAMES_AT_ONCE + 3, 68, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        at_once = decoder(landmarks)
    torch.testing.assert_close(at_once, decoder(landmarks).detach(), rtol=0, atol=1e-6)
    assert at_once.is_contiguous()


def test_decoder_of_arrays_read_back_is_the_same(small):
    again = Hierarchy.from_arrays({name: torch.from_numpy(value).numpy() for name, value in small.arrays().items()})
    landmarks = torch.full((1, 204), 0.01)
    with torch.no_grad():
        assert torch.equal(small_decoder(small)(landmarks), small_decoder(again)(landmarks))


def test_filters_have_to_fit_the_levels(small):
    with pytest.raises(ValueError, match="5 filters for 3 levels"):
        S2DDecoder(small)


def test_loss_by_hand():
    target = torch.tensor([[[3.0, 0, 0], [0, 0, 0]], [[0, 0, 6.0], [0, 3.0, 0]]])
    # weighted: (3 * 1 + 6 * 1 + 3 * 0.5) / (2 * 3); unweighted: 12 over 2 frames, 2 + 1 vertices, 3 axes
    loss = s2d_loss(torch.zeros_like(target), target, torch.tensor([1.0, 0.5]))
    assert loss.item() == pytest.approx(10.5 / 6 + 0.1 * 12 / 18)


def test_weights_are_one_at_inner_landmarks_and_fall_with_distance():
    head = demo_head(0)
    face_idx, bary = static_embedding(head)
    contour = np.zeros(17, dtype=np.int64), np.full((17, 3), 1 / 3)
    embedding = LandmarkEmbedding(
        np.concatenate([contour[0], face_idx]), np.concatenate([contour[1], bary]), head.faces, len(head.mean)
    )
    weights = landmark_weights(head.mean, embedding)
    inner = np.unique(head.faces[face_idx])
    assert (weights[inner] == 1).all() and weights.min() == 0
    farthest = np.linalg.norm(head.mean[:, None] - head.mean[inner][None], axis=2).min(axis=1)
    np.testing.assert_allclose(weights, 1 - farthest / farthest.max(), atol=1e-6)


def test_weights_are_near_the_published_file(shared_data, published):
    from face4d.landmarks import load_embedding

    embedding = load_embedding(shared_data / "flame_assets" / "landmark_embedding_68.npz")
    ours = landmark_weights(published.levels[0].vertices, embedding)
    theirs = read_weights(shared_data / "flame_assets" / "Normalized_d_weights.npy", 5023)
    np.testing.assert_array_equal(theirs == 1, ours == 1)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.98


def test_bad_weight_files_are_refused(tmp_path):
    np.save(tmp_path / "w.npy", np.ones(7))
    assert read_weights(tmp_path / "w.npy", 6).shape == (6,)  # the last was the dummy vertex's
    for path, message in ((tmp_path / "w.npy", "shape"), (tmp_path / "none.npy", "no such file")):
        with pytest.raises(InputError, match=message):
            read_weights(path, 9)


def test_published_checkpoints_are_read_by_name(small, tmp_path, monkeypatch):
    monkeypatch.setattr("face4d.dense.s2d.S2DDecoder", lambda hierarchy: small_decoder(hierarchy))
    decoder, path = small_decoder(small), tmp_path / "checkpoint.pth.tar"
    for parameter in decoder.parameters():
        parameter.data.fill_(0.25)
    state = decoder.state_dict()
    for content in ({"epoch": 3, "autoencoder_state_dict": state, "optimizer_state_dict": {"state": {}}}, state):
        torch.save(content, path)
        assert torch.equal(load_published(path, small).fc_latent_dec.weight, decoder.fc_latent_dec.weight)
    torch.save({"autoencoder_state_dict": state | {"fc_latent_dec.weight": torch.zeros(2, 204)}}, path)
    with pytest.raises(InputError, match=r"template of 218 vertices.*fc_latent_dec.weight \(2, 204\) for \(120, 204\)"):
        load_published(path, small)
    torch.save({"weights": 1}, path)
    with pytest.raises(InputError, match="no fc_latent_dec.weight"):
        load_published(path, small)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="unreadable"):
        load_published(path, small)
    with pytest.raises(InputError, match="no such file"):
        load_published(tmp_path / "none.pth.tar", small)
