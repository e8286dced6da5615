"""DECA's encoders and detail generator against the published program's output for weights made from the entries'
names."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from face4d.deca.networks import (
    MAX_DISPLACEMENT,
    CodeLayout,
    DetailGenerator,
    Encoder,
    build_backbone,
    for_inference,
    load_weights,
)
from face4d.errors import InputError


def fill_from_names(network: nn.Module) -> nn.Module:
    """Weights that follow from each entry's name alone (tests/reference/README.md)."""
    state = network.state_dict()
    for name, value in state.items():
        norm = name.rpartition(".")[0] + ".running_mean" in state
        z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(value.shape)).astype(np.float32)
        if name.endswith("num_batches_tracked"):
            continue
        if norm:
            z = {"weight": 1 + 0.02 * z, "running_var": 1 + 0.02 * np.abs(z)}.get(name.rpartition(".")[2], 0.02 * z)
        else:
            z = z * np.float32(1 / np.sqrt(np.prod(z.shape[1:]))) if z.ndim > 1 else z * np.float32(0.02)
        value.copy_(torch.from_numpy(np.asarray(z, np.float32)))
    return network.eval()


def relative(found: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


@torch.no_grad()
def test_encoder_meets_the_reference_also_when_folded(reference):
    arrays = reference("c09_deca")
    images = torch.from_numpy(
        np.random.default_rng(zlib.crc32(b"input:c09_deca_image")).random((2, 3, 224, 224)).astype(np.float32)
    )
    encoder = fill_from_names(Encoder(236))
    features = encoder.encoder(images)
    assert relative(features[:, :64], arrays["E_flame_features_first64"]) < 1e-4
    code = encoder.layers(features)
    assert relative(code, arrays["E_flame_out"]) < 1e-5
    folded = for_inference(encoder)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert relative(folded(images), arrays["E_flame_out"]) < 1e-5
    assert any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    # so E_detail is the same check
    np.testing.assert_allclose(arrays["E_detail_out"], arrays["E_flame_out"][:, :128], atol=1e-6)


@torch.no_grad()
def test_detail_generator_meets_the_reference(reference):
    arrays = reference("c09_deca")
    generator = fill_from_names(DetailGenerator())
    out = generator(torch.from_numpy(arrays["D_code"]))
    assert out.shape == (2, 1, 256, 256) and out.abs().max() <= MAX_DISPLACEMENT
    assert relative(out[:, 0, ::8, ::8], arrays["D_slice"]) < 1e-4
    assert relative(torch.cat([out[:, 0, 0], out[:, 0, -1]]), arrays["D_border"]) < 1e-4
    assert (
        relative(for_inference(generator)(torch.from_numpy(arrays["D_code"]))[:, 0, ::8, ::8], arrays["D_slice"]) < 1e-4
    )


@pytest.mark.parametrize(
    ("group", "network"), [("E_flame", Encoder(236)), ("E_detail", Encoder(128)), ("D_detail", DetailGenerator())]
)
def test_state_dict_has_the_published_names_and_shapes(group, network):
    path = Path(__file__).parent / "reference" / "deca_state_dict.json"
    published = {name: tuple(shape) for name, shape, _ in json.loads(path.read_text())[group]}
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == published


def test_code_is_split_in_order():
    layout = CodeLayout()
    assert layout.total == 236
    code = layout.split(torch.arange(236.0)[None].repeat(2, 1))
    firsts = {name: value.flatten(1)[0, 0].item() for name, value in code.as_dict().items()}
    assert firsts == {"shape": 0, "texture": 100, "expression": 150, "pose": 200, "camera": 206, "light": 209}
    assert code.light.shape == (2, 9, 3) and code.light[0, 1].tolist() == [212, 213, 214]
    assert len(code[1:]) == 1


def test_smaller_backbone_gives_features_of_any_picture():
    network = build_backbone("resnet18").eval()
    assert network(torch.rand(2, 3, 64, 96)).shape == (2, network.num_features)
    with pytest.raises(InputError, match="resnet50"):
        build_backbone("vgg")


@torch.no_grad()
def test_entries_are_never_skipped_silently():
    network, weights = Encoder(5, "resnet18", 4), Encoder(5, "resnet18", 4).state_dict()
    load_weights(network, weights, "x.tar", "E_flame")
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    with pytest.raises(InputError, match=r"x.tar, E_flame: .*none named layers.2.bias"):
        load_weights(
            network, {name: value for name, value in weights.items() if name != "layers.2.bias"}, "x.tar", "E_flame"
        )
    with pytest.raises(InputError, match=r"layers.0.weight \(3, 3\) for"):
        load_weights(network, {**weights, "layers.0.weight": torch.zeros(3, 3)}, "x.tar", "E_flame")
    with pytest.raises(InputError, match="finite"):
        load_weights(network, {**weights, "layers.0.bias": weights["layers.0.bias"] / 0}, "x.tar", "E_flame")
