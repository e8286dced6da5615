"""The volume network: the published one's vectors, its phases, its folded form."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from face4d.vrn.network import DEPTH, VolumeNetwork, enlarged_phase, for_inference, volume_loss


def recipe_weights(network: torch.nn.Module) -> None:
    """The reference's weights: every entry drawn from a generator seeded with its own name."""
    entries = network.state_dict()
    for name, tensor in entries.items():
        prefix, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            continue
        draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape)).astype(np.float32)
        if draw.ndim >= 2:
            draw *= np.float32(1 / np.sqrt(np.prod(draw.shape[1:])))
        elif f"{prefix}.running_mean" not in entries:
            draw *= np.float32(0.02)
        else:
            draw = {"weight": 1 + np.float32(0.02) * draw, "running_var": 1 + np.float32(0.02) * np.abs(draw)}.get(
                kind, np.float32(0.02) * draw
            )
        tensor.copy_(torch.from_numpy(draw))


@pytest.fixture(scope="module")
def published() -> VolumeNetwork:
    network = VolumeNetwork().eval().requires_grad_(False)
    recipe_weights(network)
    return network


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(zlib.crc32(b"input:c08_vrn")).random((1, 3, 192, 192)).astype(np.float32)
    )


def test_the_published_network_has_its_1917_entries(published):
    entries = published.state_dict()
    assert len(entries) == 1917
    assert sum(value.numel() for value in entries.values() if value.is_floating_point()) == 19_277_384
    assert entries["3.0.1.0.weight"].shape == (128, 64, 1, 1)
    assert entries["7.1.0.0.3.0.0.3.0.0.3.0.1.9.0.0.8.weight"].shape == (256, 128, 1, 1)
    assert entries["11.0.1.weight"].shape == (200, 256, 1, 1)
    assert VolumeNetwork(0.0625).state_dict().keys() == entries.keys()


def test_the_published_network_meets_the_reference(published, picture, reference):
    vectors = reference("c08_vrn")
    np.testing.assert_array_equal(picture[0, :, 0, :8].numpy(), vectors["input_first8"])
    logits = for_inference(published).coarse_logits(picture.to(memory_format=torch.channels_last))
    np.testing.assert_allclose(logits[0, ::20, ::6, ::6].numpy(), vectors["logits_48x48_slice"], rtol=0, atol=1e-3)
    volume = published[-1][0][2:](logits)[0].numpy()
    np.testing.assert_allclose(volume[::20, ::16, ::16], vectors["slice"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(volume[::20, ::16, ::16], vectors["float64_slice"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(volume.ravel()[vectors["flat_index"]], vectors["flat_value"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(volume.mean((1, 2), dtype=np.float64), vectors["channel_mean"], rtol=0, atol=1e-4)


def test_folding_changes_rounding_only():
    torch.manual_seed(0)
    network = VolumeNetwork(0.0625)
    with torch.no_grad():
        network(torch.rand(2, 3, 64, 64))  # statistics that are not those of the start
        network.eval()
        pictures = torch.rand(1, 3, 64, 64)
        folded = for_inference(network)
        torch.testing.assert_close(folded(pictures), network(pictures), rtol=0, atol=1e-5)
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules()) < 150
    assert network[1].training is False and isinstance(network[1], torch.nn.BatchNorm2d)  # the original is left alone


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 3), (2, 1), (3, 2)])
def test_a_phase_is_the_enlargement_s(row, column):
    coarse = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    whole = interpolate(coarse, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarged_phase(coarse, row, column), whole[..., row::4, column::4])


def test_the_phases_losses_average_to_the_loss_over_all_voxels():
    coarse = torch.randn(1, 4, 3, 3, dtype=torch.float64)
    volume = torch.rand(1, 4, 12, 12, dtype=torch.float64).round()
    whole = binary_cross_entropy_with_logits(
        interpolate(coarse, scale_factor=4, mode="bilinear", align_corners=False), volume
    )
    parts = [
        volume_loss(coarse, volume[..., row::4, column::4], row, column) for row in range(4) for column in range(4)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_the_prior_is_where_training_starts():
    network = VolumeNetwork(0.0625)
    occupancy = torch.linspace(0.01, 0.9, DEPTH)
    network.set_prior(occupancy)
    torch.nn.init.zeros_(network[-1][0][1].weight)
    torch.testing.assert_close(network.eval()(torch.rand(1, 3, 16, 16))[0, :, 0, 0], occupancy, rtol=0, atol=1e-4)
