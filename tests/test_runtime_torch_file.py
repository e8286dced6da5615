"""Files of torch.save: what torch writes is read as torch reads it, and nothing else."""

import contextlib
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from face4d.errors import InputError
from face4d.runtime.torch_file import read_torch_file


def equal(found, wanted) -> bool:
    if isinstance(wanted, torch.Tensor):
        return torch.equal(found, wanted) and found.dtype == wanted.dtype
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(equal(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, (list, tuple)):
        return type(found) is type(wanted) and len(found) == len(wanted) and all(map(equal, found, wanted))
    return found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(("zipped", "protocol"), [(True, 2), (True, 4), (False, 2)])
def test_what_torch_saves_is_read(tmp_path, zipped, protocol):
    shared = torch.randn(4, 5)
    content = {
        "model": torch.nn.Linear(3, 4).state_dict(),
        "kinds": [
            torch.ones(2, 3).to(kind)
            for kind in (torch.float64, torch.half, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
        ],
        "views": (shared, shared.T, shared[1:, 2], torch.empty(0, 3), torch.tensor(2.5)),
        "plain": {"a": 1, 2: None, "c": [True, 1.5, "ü", 2**40], "e": OrderedDict(b=1)},
    }
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    content["plain"]["e"] = {"b": 1}
    found = read_torch_file(tmp_path / "x.pt", "weights")
    content["model"] = dict(content["model"])
    assert equal(found, content)
    assert found["views"][0].data_ptr() == found["views"][1].data_ptr()


def test_parameters_sizes_and_numpy_numbers_are_plain(tmp_path):
    content = {
        "p": torch.nn.Parameter(torch.ones(2)),
        "size": torch.Size((1, 2)),
        "device": torch.device("cpu"),
        "kind": torch.float16,
    }
    content |= {
        "best": np.float64(0.1),
        "count": np.int32(-7),
        "big": np.float32(2).astype(">f4"),
        "yes": np.bool_(True),
    }
    torch.save(content, tmp_path / "x.pt")
    found = read_torch_file(tmp_path / "x.pt", "weights")
    assert equal(found.pop("p"), torch.ones(2))
    assert found == {
        "size": (1, 2),
        "device": "cpu",
        "kind": "float16",
        "best": 0.1,
        "count": -7,
        "big": 2.0,
        "yes": True,
    }
    assert all(type(found[key]) in (int, float, bool) for key in ("best", "count", "big", "yes"))


def refused(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_torch_file(path, "weights")
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize("zeroed", [0, 64])
def test_a_flipped_bit_or_a_zeroed_block_is_noticed_wherever_it_is(tmp_path, zeroed):
    path = tmp_path / "x.pt"
    torch.save({"weight": torch.randn(100, 100), "epoch": 3}, path)
    whole, wanted = path.read_bytes(), read_torch_file(path, "weights")
    for start in (*range(0, 1500, 37), *range(1500, 41_000, 2503), *range(len(whole) - 900, len(whole), 37)):
        data = bytearray(whole)
        data[start : start + max(zeroed, 1)] = (
            bytes(len(data[start : start + zeroed])) if zeroed else bytes([data[start] ^ 4])
        )
        path.write_bytes(data)
        with contextlib.suppress(InputError):
            assert equal(read_torch_file(path, "weights"), wanted)  # dates and padding mean nothing


class Call:
    def __init__(self, function, *args):
        self.parts = function, args

    def __reduce__(self):
        return self.parts


def archive(path, content: bytes, storages: dict[str, bytes] | None = None, **more) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", content)
        for name, data in (storages or {}).items():
            file.writestr(f"x/data/{name}", data, **more)
    return path.read_bytes()


def view(
    size: int, stride: int = 1, offset: int = 0, count: int = 4, kind: str = "FloatStorage", key: str = "0"
) -> bytes:
    """A pickle of one tensor, opcode by opcode."""

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def number(value):
        return b"\x8a\x08" + struct.pack("<q", value)

    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"
    tensor = storage + number(offset) + number(size) + b"\x85" + number(stride) + b"\x85" + b"\x89)"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + tensor + b"tR."


def test_tensors_lie_in_what_the_file_holds(tmp_path):
    path, four = tmp_path / "x.pt", {"0": bytes(16)}
    path.write_bytes(archive(path, view(4), four))
    assert read_torch_file(path, "weights").shape == (4,)
    for content in (
        view(5),
        view(4, offset=1),
        view(3, stride=2),
        view(10**9, stride=0),
        view(-1),
        view(4, stride=-1),
        view(2**62),
    ):
        assert "tensor" in refused(path, archive(path, content, four))
    assert "bytes for the 1000000000" in refused(path, archive(path, view(4, count=10**9), four))
    assert "bytes for the 4 numbers" in refused(path, archive(path, view(4, kind="DoubleStorage"), four))
    assert "no bytes" in refused(path, archive(path, view(4, key="../0"), four))
    assert "no weights have" in refused(path, archive(path, view(4).replace(b"FloatStorage", b"device"), four))
    assert "QInt8Storage" in refused(path, archive(path, view(4, kind="QInt8Storage"), four))
    assert "compressed" in refused(
        path, archive(path, view(10**6, count=10**6), {"0": bytes(4 * 10**6)}, compress_type=zipfile.ZIP_DEFLATED)
    )


def test_sparse_and_meta_tensors_are_refused(tmp_path):
    for content in (torch.eye(3).to_sparse(), torch.empty(10**9, device="meta")):
        torch.save(content, tmp_path / "x.pt")
        assert "a reference to torch" in refused(tmp_path / "x.pt", (tmp_path / "x.pt").read_bytes())


def test_nothing_in_a_file_runs(tmp_path, capsys):
    path = tmp_path / "x.pt"
    for content in (
        Call(print, "ran"),
        torch.nn.Linear(2, 2),
        Call(torch.load, "y"),
        Call(bytearray, 10**9),
        {1, 2},
        np.arange(3),
    ):
        torch.save(content, path)
        assert "a reference to" in refused(path, path.read_bytes())
        torch.save(content, path, _use_new_zipfile_serialization=False)
        assert "a reference t" in refused(path, path.read_bytes())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content",
    [
        b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00ai\x01s" + b"b.",
        b"ccollections\nOrderedDict\n(N}X\x04\x00\x00\x00makeK\x01stb.",  # BUILD with slots of what find_class gave
        b"ctorch\nFloatStorage\n}X\x04\x00\x00\x00kindK\x01sb.",
        b"ctorch\nFloatStorage\n.",
        # a tensor's size, changed after it was checked
        view(4)[:-1] + b"}X\x04\x00\x00\x00sizeJ\xff\xff\xff\x7f\x85sb.",
        b"]" + b"(" * 10**5 + b".",
        b"]" * 200 + b"a" * 199 + b".",  # nested
        b"]q\x00" + b"h\x00a" + b".",  # a list in itself
        b"r\xff\xff\xff\x1f.",  # room for half a billion memos
        b"Nr\xff\xff\xff\x1f.",
        b"\x96\xff\xff\xff\xff\x00\x00\x00\x00.",  # a bytearray of 4 GB
        b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x08\x00\x00\x00punycode\x86R.",
        b"cos\nsystem\n.",
        b"",
        b"\x80\xff.",
    ],
)
def test_pickles_that_mean_harm_are_refused(tmp_path, content):
    path = tmp_path / "x.pt"
    message = refused(
        path, archive(path, b"\x80\x02" + content if content[:1] != b"\x80" else content, {"0": bytes(16)})
    )
    assert "unreadable" in message and len(message) < 400


def test_shared_lists_are_visited_once(tmp_path):
    path, content = tmp_path / "x.pt", b"\x80\x02]q\x00"
    for number in range(60):
        # each list twice in the next
        content += bytes([0x5D, 0x71, number + 1]) + b"(" + 2 * bytes([0x68, number]) + b"e"
    path.write_bytes(archive(path, content + b"."))
    assert isinstance(read_torch_file(path, "weights"), list)


def test_other_files_are_named(tmp_path):
    path = tmp_path / "x.pt"
    assert "it is empty" in refused(path, b"")
    assert "not from torch.save" in refused(path, b"hello" * 200)
    assert "tar archive" in refused(path, b"a" * 257 + b"ustar" + bytes(300))
    assert "damaged or cut" in refused(path, b"PK\x03\x04" + bytes(100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    assert "TorchScript" in refused(path, path.read_bytes())
    np.savez(path.with_suffix(".npz"), a=1)
    assert "torch.save did not write" in refused(path, path.with_suffix(".npz").read_bytes())
    torch.save({"a": torch.ones(100)}, path, _use_new_zipfile_serialization=False)
    assert "ends early" in refused(path, path.read_bytes()[:-50])
    assert "unreadable" in refused(path, pickle.dumps({"a": 1}, 2))
