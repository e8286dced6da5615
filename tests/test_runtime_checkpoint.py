"""Checkpoints of every kind: whole ones load, and one field that is off is one line that names the file and the
field."""

import copy
import resource

import numpy as np
import pytest
import torch

from face4d.classification import classifier as classification
from face4d.classification.config import ClassifierConfig
from face4d.classification.model import ExpressionClassifier
from face4d.deca import checkpoints
from face4d.deca.config import EncoderConfig
from face4d.deca.networks import CodeLayout, PointEncoder
from face4d.dense import decode
from face4d.dense.config import DenseConfig
from face4d.dense.decoders import LinearDecoder, RbfDecoder
from face4d.dense.hierarchy import build_hierarchy
from face4d.dense.s2d import S2DDecoder
from face4d.errors import InputError
from face4d.generation import sample
from face4d.generation.config import GeneratorConfig
from face4d.generation.lstm import build_network
from face4d.generation.motion3dgan.config import MotionGANConfig
from face4d.generation.motion3dgan.networks import Motion3DGAN
from face4d.runtime.checkpoint import load_checkpoint, load_weights, save_checkpoint
from face4d.vrn import reconstruction as volumetric
from face4d.vrn.config import VolumeConfig
from face4d.vrn.network import VolumeNetwork
from face4d.vrn.voxels import VRN_GRID
from tests.conftest import real_data

SOURCE = {
    "dataset": "demo",
    "landmarks": "demo/x",
    "test_subjects": ["Demo05"],
    "labels": None,
    "actors": None,
    "flame": "f",
}
LABELS = ["a", "b-c"]


def generator(config, network) -> tuple[str, dict]:
    content = {"labels": LABELS, "num_landmarks": 68, "frames": 41, "source": SOURCE, "metrics": {"mm": 0.5}}
    return "generator", {"config": config.as_dict(), **content, "model": network.state_dict()}


def coefficients():
    config = GeneratorConfig(hidden_size=4, components=3)
    return generator(config, build_network(config, 2))


def thesis():
    config = GeneratorConfig(network="thesis", hidden_size=4, components=0, start_frames="every", warps=0)
    return generator(config, build_network(config, 2))


def motion3dgan():
    config = MotionGANConfig(hidden_size=4, components=3, points=5)
    return generator(config, Motion3DGAN(config, 2))


def classifier():
    network = {"hidden_size": 4, "layers": 2, "input_scale": 2.5, "num_landmarks": 68}
    content = {
        "config": ClassifierConfig(hidden_size=4, layers=2).as_dict(),
        "labels": LABELS,
        "network": network,
        "frames": 41,
        "source": SOURCE,
    }
    return "classifier", {
        **content,
        "metrics": {"test_accuracy": 1.0},
        "model": ExpressionClassifier(2, **network).state_dict(),
    }


def sheet(count: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """A flat mesh of count x count vertices."""
    x, y = np.meshgrid(np.arange(count), np.arange(count))
    corner = (np.arange(count - 1)[:, None] * count + np.arange(count - 1)).ravel()
    faces = np.concatenate(
        [
            np.stack(c, 1)
            for c in ((corner, corner + 1, corner + count), (corner + 1, corner + count + 1, corner + count))
        ]
    )
    return np.stack([x.ravel(), y.ravel(), 0.01 * x.ravel() ** 2], axis=1) / 100, faces.astype(np.int32)


def dense(decoder: str, network, **more) -> tuple[str, dict]:
    template, faces = sheet()
    embedding = {
        "face_idx": torch.arange(68),
        "bary": torch.full((68, 3), 1 / 3, dtype=torch.float64),
        "faces": torch.from_numpy(faces),
    }
    content = {
        "config": DenseConfig(decoder=decoder).as_dict(),
        "topology": {"vertices": 256, "faces_digest": decode.faces_digest(faces)},
    }
    content |= {
        "template": torch.from_numpy(template).float(),
        "embedding": embedding,
        "source": {"dataset": "demo"},
        "metrics": {"strength": 0.1},
    }
    return "dense decoder", {**content, **more, "model": network.state_dict()}


def regional():
    return dense("regional", LinearDecoder(256, size_aware=True, denoise=True))


def rbf():
    return dense("rbf", RbfDecoder())


def s2d():
    hierarchy = build_hierarchy(*sheet())
    return dense(
        "s2d",
        S2DDecoder(hierarchy),
        hierarchy={name: torch.from_numpy(value) for name, value in hierarchy.arrays().items()},
    )


def encoder():
    layout, config = CodeLayout(shape=4, texture=0, expression=3), EncoderConfig(hidden=8, image_size=64)
    content = {
        "config": config.as_dict(),
        "layout": layout.as_dict(),
        "face_fingerprint": [1.0, 2.5],
        "source": {"face_model": "demo"},
    }
    return "face encoder", {**content, "metrics": {}, "model": PointEncoder(layout, 8).state_dict()}


def vrn():
    content = {
        "config": VolumeConfig(width=0.01).as_dict(),
        "grid": dict(vars(VRN_GRID)),
        "source": {"data": "x"},
        "metrics": {"iou": float("nan")},
    }
    return "volume network", {**content, "model": VolumeNetwork(0.01).state_dict()}


KINDS = {
    "coefficients": (coefficients, sample.load_generator),
    "thesis": (thesis, sample.load_generator),
    "motion3dgan": (motion3dgan, sample.load_generator),
    "classifier": (classifier, classification.load_classifier),
    "regional": (regional, decode.load_decoder),
    "rbf": (rbf, decode.load_decoder),
    "s2d": (s2d, decode.load_decoder),
    "encoder": (encoder, checkpoints.load_encoder),
    "vrn": (vrn, volumetric.load_volume_network),
}


@pytest.fixture(scope="module")
def contents() -> dict[str, tuple[str, dict]]:
    torch.manual_seed(1)
    return {name: make() for name, (make, _) in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["plain", "older", "parallel", torch.float64])
def test_whole_checkpoints_load(tmp_path, contents, kind, how):
    name, content = contents[kind]
    content = dict(content)
    if how == "older":  # before these settings were there
        content["config"] = {
            key: value for key, value in content["config"].items() if key not in ("precision", "patience", "select")
        }
    if how == "parallel":
        content["model"] = {f"module.{key}": value for key, value in content["model"].items()}
    if how == torch.float64:
        content["model"] = {
            key: value.to(how) if value.is_floating_point() else value for key, value in content["model"].items()
        }
    save_checkpoint(tmp_path / "x.pt", name, content)
    found = KINDS[kind][1](tmp_path / "x.pt")
    module = next(value for value in vars(found).values() if isinstance(value, torch.nn.Module))
    assert all(not value.is_meta and value.dtype != torch.float64 for value in module.state_dict().values())
    if hasattr(module, "hidden_size"):
        assert module.features(torch.zeros(1, 2, 68, 3)).shape == (1, 8)


def changed(content: dict, place: str, value: object) -> dict:
    """A copy with another value at ``a.b.c``; the class ``object`` takes the field out."""
    content = {key: dict(entry) if isinstance(entry, dict) else copy.copy(entry) for key, entry in content.items()}
    *above, last = place.split("/")
    inner = content
    for key in above:
        inner = inner[key]
    if value is object:
        del inner[last]
    else:
        inner[last] = value
    return content


NAN = float("nan")
EVERYWHERE = [
    ("format_version", object, "format_version to be there"),
    ("format_version", "1", "format_version to be 1, found '1'"),
    ("format_version", 0, "format_version to be 1, found 0"),
    ("format_version", True, "format_version to be 1, found true"),
    ("format_version", 2, "format 2, of a later version"),
    ("config", [], "config to be a dictionary of settings, found a list of 0"),
    ("config/epochs", "x", "config.epochs to be an integer from 1 to 1000000, found 'x'"),
    ("config/epochs", True, "config.epochs .*found true"),
    ("config/lr", NAN, "config.lr to be a finite number, above 0 and at most 10, found nan"),
    ("config/seed", 2**70, "config.seed to be an integer"),
    ("config/new_option", 1, "config.new_option .*a later version of face4d, which knows it"),
    ("config/\x1b[1m", 1, "a key of config to be text"),
    ("source", "demo", "source to be a dictionary, found 'demo'"),
    ("metrics", [1], "metrics to be a dictionary, found a list of 1"),
    ("metrics/x", [1], "metrics.x to be a number, found a list of 1"),
    ("model", [], "model to be weights by name, found a list of 0"),
    ("model", {}, "none named"),
    ("model/more", torch.ones(1), "others too: more"),
    ("model/more", 1.5, "model.more to be an array of numbers, found 1.5"),
]
GENERATOR = [
    ("frames", 0, "frames to be an integer from 2 to 10000, found 0"),
    ("frames", 10**9, "frames to be an integer from 2 to 10000, found 1000000000"),
    ("num_landmarks", 51, "num_landmarks to be 68, found 51"),
    ("labels", [], "labels to be a list of 1 to 1000, found a list of 0"),
    ("labels", ["a"], r"shapes, found .* for "),
    ("labels", ["a", "a"], "labels to be a list without repetitions, found 'a' twice"),
    ("labels", ["a", "/tmp/x"], r"labels\[1\] to be a name .*found '/tmp/x'"),
    ("labels", ["a", ".."], r"labels\[1\] to be a name"),
    ("labels", {"a": 1}, "labels to be a list"),
    ("config/hidden_size", 10**9, "config.hidden_size to be an integer from 1 to 8192"),
    ("config/hidden_size", 8_000, "entries of this network's shapes"),
    ("source/dataset", "../x", "source.dataset to be a name of letters"),
    ("source/landmarks", 3, "source.landmarks to be text"),
    ("source/test_subjects", ["../x"], r"source.test_subjects\[0\] to be a name"),
]
FIELDS = {
    "coefficients": [
        *EVERYWHERE,
        *GENERATOR,
        ("config/network", "other", "config.network to be residual or coefficients or thesis"),
        ("choice", {"components": 2.5}, "choice.components to be an integer"),
        ("choice", {"components": 5}, "entries of this network's shapes"),
        ("config/model", "x", "config.model .*a later version"),
    ],
    "thesis": [("config/hidden_size", 5, "shapes")],
    "motion3dgan": [
        *GENERATOR[8:10],
        ("config/points", 3, "config.points to be an integer from 4"),
        ("config/critic_norm", 1, "config.critic_norm"),
    ],
    "classifier": [
        *EVERYWHERE,
        *GENERATOR[:2],
        *GENERATOR[3:8],
        ("network", object, "network to be there"),
        ("network/layers", 10**6, "network.layers to be an integer from 1 to 100"),
        ("network/hidden_size", 60_000, "shapes"),
        ("network/input_scale", NAN, "network.input_scale to be a finite number, above 0"),
        ("network/dropout", 0.1, "network.dropout .*later version"),
        ("network/num_landmarks", 51, "network.num_landmarks to be 68, found 51"),
    ],
    "regional": [
        *EVERYWHERE,
        ("config/decoder", "magic", "config.decoder to be neutral or"),
        ("template", torch.zeros(256, 2), r"template to be finite numbers \(n, 3\), found float32 \(256, 2\)"),
        ("template", torch.full((256, 3), NAN), "template to be finite numbers, found NaN"),
        ("template", torch.zeros(256, 3, dtype=torch.int64), "template to be finite numbers"),
        ("template", torch.zeros(10**5, 3), "template of 256 vertices, found 100000"),
        ("template", [[0.0] * 3], "template to be finite numbers"),
        ("embedding/face_idx", torch.zeros(68), r"embedding.face_idx to be whole numbers \(68,\), found float32"),
        ("embedding/face_idx", torch.full((68,), -1), "embedding.face_idx to be whole numbers .* found -1"),
        ("embedding/face_idx", torch.full((68,), 10**6), "face numbers 0 to 449"),
        ("embedding/bary", torch.full((68, 3), NAN), "embedding.bary to be finite numbers"),
        ("embedding/bary", torch.ones(68, 3), "sum to 1"),
        ("embedding/faces", torch.full((450, 3), 300), "found 256, and vertex 300"),
        ("embedding/faces", torch.zeros(450, 3, dtype=torch.int32), "the triangles it was trained with"),
        ("embedding", object, "embedding to be there"),
        ("topology/vertices", "256", "topology.vertices to be an integer"),
        ("topology/faces_digest", None, "topology.faces_digest to be text"),
    ],
    "s2d": [
        ("hierarchy", object, "mesh hierarchy"),
        ("hierarchy", 5, "hierarchy to be a dictionary"),
        ("hierarchy/level0_spirals", torch.zeros(257, 4), "hierarchy.level0_spirals to be whole numbers"),
        ("hierarchy/level0_vertices", torch.full((256, 3), NAN), "hierarchy.level0_vertices to be finite"),
        ("hierarchy/step0_weights", torch.zeros(0, 3), "hierarchy.step0_weights to be finite numbers"),
        ("hierarchy/step0_corners", torch.full((256, 3), 10**6), "do not fit together"),
        ("hierarchy/level0_colours", torch.zeros(3), "hierarchy.level0_colours to be an array of a mesh hierarchy"),
        ("hierarchy/level4_spirals", object, "mesh hierarchy|levels"),
    ],
    "rbf": [
        ("model/smoothing", torch.tensor(NAN), "model.smoothing to be finite"),
        ("model/smoothing", torch.zeros(2), "shapes"),
    ],
    "encoder": [
        *EVERYWHERE[::4],
        ("config/backbone", "vgg", "config.backbone to be small or"),
        ("config/image_size", 10**6, "config.image_size to be an integer from 32 to 2048"),
        ("layout/shape", -1, "layout.shape to be an integer from 0 to 1000"),
        ("layout/light", 9, "layout.light to be 27, found 9"),
        ("layout/hair", 9, "layout.hair .*later version"),
        ("source/face_model", 5, "source.face_model to be text"),
        ("source/face_model", object, "source.face_model to be there"),
        ("face_fingerprint", [NAN], r"face_fingerprint\[0\] to be a finite number"),
    ],
    "vrn": [
        EVERYWHERE[0],
        ("config/width", 0, "config.width to be a finite number, above 0 and at most 1"),
        ("config/width", 2.0, "config.width"),
        ("grid/depth", 100, "volume of .200, 192, 192. voxels"),
        ("grid/step", 0.0, "grid.step to be a finite number, above 0"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "place", "value", "words"), [(kind, *row) for kind, rows in FIELDS.items() for row in rows]
)
def test_one_field_off_is_one_line(tmp_path, contents, kind, place, value, words):
    name, content = contents[kind]
    path = tmp_path / "x.pt"
    torch.save(changed({"format": "face4d", "format_version": 1, "kind": name, **content}, place, value), path)
    with pytest.raises(InputError, match=words) as error:
        KINDS[kind][1](path)
    assert error.value.path.startswith(str(path)) and str(error.value).isprintable() and len(str(error.value)) < 500


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_finite_and_of_their_type(tmp_path, contents, kind):
    name, content = contents[kind]
    key = next(key for key, value in content["model"].items() if value.is_floating_point())
    good = content["model"][key]
    for value, words in (
        (good / 0, "finite numbers, found NaN or infinity"),
        (torch.full_like(good, 1e300, dtype=torch.float64), "finite numbers"),
        (torch.zeros_like(good, dtype=torch.int32), "floating weights, and counters of whole numbers"),
        (torch.zeros(*good.shape, 1), "shapes"),
    ):
        save_checkpoint(tmp_path / "x.pt", name, {**content, "model": {**content["model"], key: value}})
        with pytest.raises(InputError, match=words):
            KINDS[kind][1](tmp_path / "x.pt")
    for kind_of in (torch.half, torch.bfloat16) if kind != "vrn" else ():
        model = {
            key: value.to(kind_of) if value.is_floating_point() else value for key, value in content["model"].items()
        }
        save_checkpoint(tmp_path / "x.pt", name, {**content, "model": model})
        KINDS[kind][1](tmp_path / "x.pt")


def test_nothing_large_is_made_for_a_file_that_is_refused(tmp_path, contents):
    name, content = contents["thesis"]
    save_checkpoint(tmp_path / "x.pt", name, changed(content, "config/hidden_size", 8_192))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="shapes"):
        sample.load_generator(tmp_path / "x.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10  # KiB


def test_weights_of_a_parallel_network_lose_their_prefix():
    network = torch.nn.Linear(2, 3)
    load_weights(network, {"module.weight": torch.ones(3, 2), "module.bias": torch.ones(3).half()}, "x.tar")
    assert network.weight.sum() == 6 and network.bias.dtype == torch.float32
    with pytest.raises(InputError, match="none named weight"):  # of some names it is part of the name
        load_weights(network, {"module.weight": torch.ones(3, 2), "bias": torch.ones(3)}, "x.tar")


def test_a_key_that_is_no_name_is_told_in_printable_letters(tmp_path):
    save_checkpoint(tmp_path / "x.pt", "\x1b[31m", {})
    with pytest.raises(InputError) as error:
        load_checkpoint(tmp_path / "x.pt", "generator")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("case", ["checkpoint_fields", "label_path"])
def test_the_cases(case):
    for path in sorted(real_data(f"cases/{case}").glob("*.pt")):
        with pytest.raises(InputError, match=path.name):
            sample.load_generator(path)
