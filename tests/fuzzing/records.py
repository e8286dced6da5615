"""Records: checkpoints as archives and as pickles, JSON records, curves of other people's runs."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzzing import Reader
from tests.fuzzing.mutations import mutated

# Values that no field, or only a few, should take.
_ODD = (
    None, True, False, 0, 1, -1, 2, 68, 10**9, 2**63, -(2**70), 0.0, -1.5, 1e300, float("nan"), float("inf"), "", "x",
    "../x", "/tmp/x", "\x1b[1m", "a\nb", "ä",
    [], {}, [1], ["x"], {"x": 1}, [[]], [None] * 3, "x" * 5000,
)  # fmt: skip
_HOW = ("value", "value", "value", "drop", "more")


@st.composite
def _altered(draw: DrawFn, content: Any, odd: tuple[Any, ...] = _ODD) -> Any:
    """A structure of dictionaries and lists with one to three entries replaced, taken out or put in, at any depth."""
    for _ in range(draw(st.integers(0, 3))):
        content = _alter(draw, content, odd)
    return content


def _alter(draw: DrawFn, content: Any, odd: tuple[Any, ...]) -> Any:
    if not isinstance(content, (dict, list)) or not content or draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(odd))
    content = content.copy()
    key = draw(st.sampled_from(list(content) if isinstance(content, dict) else range(len(content))))
    how = draw(st.sampled_from(_HOW))
    if isinstance(content[key], (dict, list)) and draw(st.booleans()):
        content[key] = _alter(draw, content[key], odd)
    elif how == "value":
        content[key] = draw(st.sampled_from(odd))
    elif how == "drop":
        del content[key]
    elif isinstance(content, dict):
        content[draw(st.sampled_from(("new", "lr", "x", 5)))] = draw(st.sampled_from(odd))
    else:
        content.insert(key, draw(st.sampled_from(odd)))
    return content


@cache
def _generator() -> dict[str, Any]:
    """A whole generator checkpoint of a few numbers."""
    import torch

    from face4d.generation.config import GeneratorConfig
    from face4d.generation.lstm import CoefficientGenerator

    with torch.device("meta"):
        CoefficientGenerator(2, 2, 2)  # the first one imports for seconds
    torch.manual_seed(1)
    config = GeneratorConfig(hidden_size=2, components=2)
    source = {
        "dataset": "demo",
        "landmarks": "demo/x",
        "test_subjects": ["Demo05"],
        "labels": None,
        "actors": None,
        "flame": "f",
    }
    content = {
        "format": "face4d",
        "format_version": 1,
        "kind": "generator",
        "config": config.as_dict(),
        "labels": ["a", "b"],
        "num_landmarks": 68,
    }
    content |= {
        "frames": 41,
        "source": source,
        "metrics": {"mm": 0.5},
        "choice": {"components": 2, "timing": 0.5},
        "model": dict(CoefficientGenerator(2, 2, 2).state_dict()),
    }
    return content


@cache
def _odd_tensors() -> tuple[Any, ...]:
    import torch

    kinds = (torch.float64, torch.half, torch.bfloat16, torch.int64, torch.bool)
    shapes = ((), (0,), (2,), (2, 2), (8, 40), (204, 2))
    tensors = [torch.ones(shape).to(kind) for shape in shapes for kind in (torch.float32, *kinds)]
    return (
        *tensors,
        torch.full((2,), float("nan")),
        torch.full((204, 2), float("inf")),
        torch.full((2, 8), 1e300, dtype=torch.float64),
        torch.ones(2, 2).T,
    )


@st.composite
def _checkpoints(draw: DrawFn) -> bytes:
    """A checkpoint with fields that are off, in either of torch's file formats."""
    import torch

    content = draw(_altered(_generator(), (*_ODD, *_odd_tensors())))
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=draw(st.integers(0, 3)) > 0)
    return file.getvalue()


def _read_checkpoint(path: Path) -> None:
    from face4d.generation.sample import load_generator

    generator = load_generator(path)
    assert all(
        value.isfinite().all() and not value.is_meta
        for value in generator.network.state_dict().values()
        if value.is_floating_point()
    )
    assert all("/" not in label and label not in (".", "..") for label in generator.labels)
    if generator.frames < 10:
        assert generator.generate(np.zeros((1, 68, 3), np.float32), np.zeros(1, np.int64)).shape == (
            1,
            generator.frames,
            68,
            3,
        )


@cache
def _members() -> dict[str, bytes]:
    """Members of the archive of a whole checkpoint."""
    import torch

    file = io.BytesIO()
    torch.save(_generator(), file)
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


_OPCODES = (
    b"c__builtin__\neval\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n",
    b"ccollections\nOrderedDict\n", b"cnumpy\ndtype\n", b"cnumpy._core.multiarray\nscalar\n", b"c_codecs\nencode\n",
    b"R", b"b", b"(", b"t", b"]", b"}", b")", b"s", b"u", b"a", b"e", b"Q", b"0", b"1", b"2", b"N",
    b"K\x05", b"J\xff\xff\xff\xff", b"q\x03", b"h\x03", b"h\x00", b"r\xff\xff\xff\x7f", b"\x81", b"\x85", b"\x86",
    b"\x87", b"X\x02\x00\x00\x00f8", b"X\x01\x00\x00\x000",
    b"G\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\x8a\x08" + struct.pack("<q", 2**40), b"\x95" + b"\xff" * 8,
    b"\x96" + struct.pack("<Q", 2**33), b"\x8e" + b"\xff" * 8, b".",
)  # fmt: skip


@st.composite
def _pickles(draw: DrawFn) -> bytes:
    """The pickle in a checkpoint, some of it replaced by other opcodes."""
    data = _members()["data.pkl"]
    for _ in range(draw(st.integers(0, 3))):
        place, length = draw(st.integers(2, len(data))), draw(st.sampled_from((0, 0, 1, 2, 5, 30)))
        data = data[:place] + b"".join(draw(st.lists(st.sampled_from(_OPCODES), max_size=4))) + data[place + length :]
    return data


def _read_pickle(path: Path) -> None:
    """Read the pickle as that of a checkpoint whose checksums agree."""
    members = {**_members(), "data.pkl": path.read_bytes()}
    archive = path.with_suffix(".pt")
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in members.items():
            file.writestr(f"archive/{name}", data)
    _read_checkpoint(archive)


_CONFIG = {
    "lr": 0.004,
    "epochs": 2,
    "batch_size": 5,
    "hidden_size": 8,
    "loss": "l2",
    "network": "thesis",
    "seed": 27,
    "select": "last",
}
_RUN = {
    "config": _CONFIG,
    "labels": ["a"],
    "frames": 41,
    "source": {"dataset": "demo", "labels": None},
    "data_digest": "0" * 64,
}
_CLASSIFIER = {
    "config": {"lr": 0.01, "epochs": 2, "batch_size": 5, "hidden_size": 8, "layers": 1},
    "source": {"dataset": "florence"},
}
_SCORED = {
    "generated": "x", "classifier": "x.pt", "landmarks": "x", "sequences": 2, "labels": ["a", "b"], "samples": 1,
    "fid_real_halves": 0.5, "scores": [{"method": "real", "accuracy": 1.0},
    {"method": "generated", "mm_mean": 0.5, "accuracy": 0.5, "fid": None}],
    "per_label": [{"label": "a", "generated mm_mean": 0.5}], "per_subject": [], "training": {"method": "real training"},
    "per_group": [{"group": "jaw", "generated mm_mean": 1.5}], "over_time": {"generated": [0.1, 0.2]},
    "per_landmark": {"generated": [0.5] * 68}, "confusion": {"real": [[1, 0], [0, 1]], "generated": [[1, 0], [1, 0]]},
}  # fmt: skip
_GRID = [{"loss": ["l1", "l2"], "hidden-size": [8, 16]}, {"lr": [0.1, 1e-3]}]
_SET = {
    "source": {"kind": "x"},
    "grid": {"depth": 200, "height": 192, "width": 192, "step": 1.0, "center": 64.0},
    "training": ["a", "b"],
    "testing": ["c"],
    "digest": "0",
}
_DEMO = {
    "format_version": 2, "seed": 27, "subjects": 6, "coma_labels": ["bareteeth"], "florence_labels": ["Happy"],
    "florence_subjects": ["Demo01"], "level": 0, "geometry": "0123456789abcdef",
}  # fmt: skip


def _json(content: Any) -> st.SearchStrategy[bytes]:
    return mutated(
        _altered(content).map(lambda value: json.dumps(value, default=str).encode("utf-8", "surrogatepass")),
        _JSON_WORDS,
        most=2,
    )


_JSON_WORDS = (
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 30,
    b'"\\ud800"',
    b"[" * 2000,
    b'{"a":' * 500,
    b'"lr"',
    b'"../x"',
    b"{}",
    b"[]",
)


def _read_run(path: Path) -> None:
    from face4d.evaluation.comparison import groups, runs_table
    from face4d.evaluation.run_records import read_runs

    records = read_runs(path.parent)
    for group in groups(records):
        runs_table(records, group)
    assert all("/" not in record.dataset for record in records)


def _read_scored(path: Path) -> None:
    from face4d.evaluation.results import read_scored

    scored = read_scored(path)
    assert all("/" not in label for label in scored.labels)
    for key in ("over_time", "per_landmark", "confusion"):
        assert all(np.isfinite(np.asarray(values)).all() for values in scored.by_method(key).values())


def _read_grid(path: Path) -> None:
    from face4d.commands.grid import expand, read_grid
    from face4d.generation.config import GeneratorConfig
    from face4d.runtime.fields import described

    allowed = described(GeneratorConfig)
    for cell in expand(read_grid(path, allowed)):
        for name, value in cell.items():
            allowed[name](value, name)


def _read_set(path: Path) -> None:
    from face4d.vrn.volume_set import open_volume_set

    found = open_volume_set(path.parent)
    assert all("/" not in name and ".." != name for name in (*found.training, *found.testing))


def _read_demo(path: Path) -> None:
    from face4d.demo.write import _read_marker

    plan = _read_marker(path.parent)
    assert plan is None or all(
        ".." not in Path(name).parts and not Path(name).is_absolute() for name in list(plan.files())[:5000]
    )


@st.composite
def _curves(draw: DrawFn) -> bytes:
    """A CSV of curves, gzipped or not."""
    import gzip

    names = (
        "L1_1200_0.0001_128_COMA_08-20-2023_19:03",
        "Classification_2_1e-05_256_COMA_FULL_FRAME",
        "florence_thesis_l1_0.0001_128",
        "classifier_coma_default_1_0.01_64",
    )
    rows = ["run,tag,step,value"]
    for _ in range(draw(st.integers(0, 6))):
        tag = draw(
            st.sampled_from(
                (
                    "Loss/COMA/train",
                    "Loss/COMA/validation",
                    "x/Validation_Accuracy",
                    "x/Validation_loss_train",
                    "test/mm",
                )
            )
        )
        rows.append(f"{draw(st.sampled_from(names))},{tag},{draw(st.integers(0, 5))},{draw(st.floats(width=32))}")
    data = draw(
        mutated(
            st.just("\n".join([*rows, ""]).encode()),
            (b"run,tag,step,value", b'"', b"1e5", b"nan", b"L1_0_._1_A", b"\0"),
            most=3,
        )
    )
    return gzip.compress(data, mtime=0) if draw(st.integers(0, 4)) == 0 else data


def _read_curves(path: Path) -> None:
    from face4d.evaluation.comparison import groups, runs_table
    from face4d.evaluation.run_records import read_imported

    records = read_imported(path)
    for group in groups(records):
        runs_table(records, group)
    assert records and all(record.lr > 0 and record.hidden_size > 0 and "/" not in record.dataset for record in records)


def _read_own_curves(path: Path) -> None:
    from face4d.runtime.run_folder import RunFolder

    curves = RunFolder(path.parent).read_curves()
    assert all(len(epochs) == len(values) for epochs, values in curves.values())
    assert RunFolder(path.parent).last_epoch() >= 0


_OWN_CURVES = mutated(
    st.just(b"epoch,tag,value\n1,train/loss,0.5\n2,train/loss,0.25\n2,test/mm,1e-05\n"),
    (b"epoch,tag,value", b"nan", b"\0"),
    most=3,
)

READERS = (
    Reader("checkpoint", ".pt", _checkpoints(), _read_checkpoint),
    Reader("checkpoint_pickle", ".pkl", _pickles(), _read_pickle),
    Reader("run_json", "config.json", st.one_of(_json(_RUN), _json(_CLASSIFIER)), _read_run),
    Reader("scored_json", "evaluate.json", _json(_SCORED), _read_scored),
    Reader("grid_json", ".json", _json(_GRID), _read_grid, corpus=(b'{"lr":[' + b"1" * 5000 + b"]}", b"null")),
    Reader("set_json", "dataset.json", _json(_SET), _read_set),
    Reader("demo_json", "demo.json", _json(_DEMO), _read_demo),
    Reader("curves", ".csv", _curves(), _read_curves, corpus=(b"run,tag,step,value\nL1_0_._1_A,x,5,0\n",)),
    Reader("own_curves", "curves.csv", _OWN_CURVES, _read_own_curves, corpus=(b"-5\n",)),
)
