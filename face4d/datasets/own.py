"""One's own data sets: ``--dataset mine`` reads ``mine.toml`` in the working folder, one entry with a few keys."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from face4d.datasets import companions
from face4d.datasets.entry import DATASETS, FLAME, FORMATS, OWN, Dataset, MeshFolder, ResampledMeshes
from face4d.datasets.layout import canonical_label, require_one_spelling
from face4d.errors import InputError, nearest
from face4d.runtime.fields import (
    FRAMES,
    Check,
    FieldError,
    check,
    list_of,
    name,
    one_of,
    optional,
    record,
    shown,
    text,
)
from face4d.runtime.files import is_name, read_bytes

MOST_BYTES = 1 << 20  # of a file


def path(value: Any, place: str) -> str:
    """A path: text that is not empty."""
    if not text(value, place).strip():
        raise FieldError(place, "a path", shown(value))
    return value


KEYS: dict[str, Check] = {
    "meshes": optional(path),
    "format": optional(one_of(*FORMATS)),
    "frames": optional(FRAMES),
    "landmarks": optional(path),
    "labels": optional(list_of(name, 1, 1000, unique=True)),
    "test_subjects": optional(list_of(name, 1, 10**6, unique=True)),
    "flame": optional(path),
    "embedding": optional(path),
    "actors": optional(path),
    "neutral": optional(path),
    "output": optional(name),
}
"""The keys of a file by name; docs/own-data.md lists them."""


def find_dataset(wanted: str, owner: Path | None = None) -> Dataset:
    """The data set of a name: a built-in or registered one, else that of ``<name>.toml``.

    Args:
        owner: a checkpoint that remembers the name; the file is looked for from where it lies, then in the working
            folder.

    Raises:
        InputError: no such data set, or a file with something wrong in it.
    """
    if wanted in DATASETS:
        return DATASETS[wanted]
    expected = (
        f"{', '.join(known for known in DATASETS if known != OWN)}, "
        "or the name of one's own data with <name>.toml in this folder (docs/data.md)"
    )
    if not is_name(wanted):
        raise InputError("--dataset", expected, ascii(wanted)[:60])
    file = companions.find(owner, f"{wanted}.toml") if owner else Path(f"{wanted}.toml")
    if file is None or not file.is_file():
        raise InputError(owner or "--dataset", expected, f"{wanted} and no {wanted}.toml{nearest(wanted, DATASETS)}")
    return read_dataset(file)


def read_dataset(file: str | Path) -> Dataset:
    """The data set of a TOML file, named as the file is. Paths in it are relative to its folder; outputs lie in the
    working folder.

    Raises:
        InputError: names the file, the key, what it has to be and what it is.
    """
    return dataset_of(Path(file), read_toml(file))


def dataset_of(file: Path, content: Mapping[str, Any]) -> Dataset:
    """:func:`read_dataset` of content that is read, or about to be written."""
    if file.stem in DATASETS or not is_name(file.stem):
        raise InputError(file, f"a name that no data set has ({', '.join(DATASETS)})", ascii(file.stem)[:60])
    values = check(file, content, record(KEYS, others=_no_key))
    _require_keys_that_fit(file, values)

    def place(key: str) -> Path | None:
        return file.parent / values[key] if key in values else None

    output = Path(values.get("output", file.stem))
    landmarks, meshes = place("landmarks") or output / "landmarks", place("meshes")
    folders: tuple[MeshFolder, ...] = ()
    if meshes is not None:
        for what, folder in (("output", output), ("landmarks", landmarks)):
            if meshes.resolve() in (folder.resolve(), *folder.resolve().parents):
                raise InputError(file, f"{what} outside of meshes, {meshes}", f"{folder}, which is inside")
        what_they_are = meshes, values["format"], landmarks
        frames = values.get("frames")
        folders = (
            ResampledMeshes(*what_they_are, output / "sampling", frames) if frames else MeshFolder(*what_they_are),
        )
    neutral = place("neutral") or Path("neutral.ply")
    labels = tuple(sorted(map(canonical_label, values["labels"]))) if "labels" in values else None
    return Dataset(
        file.stem,
        landmarks,
        folders,
        labels=labels,
        test_subjects=tuple(values.get("test_subjects", ())),
        output=output,
        flame=place("flame") or FLAME,
        embedding=place("embedding"),
        actors=place("actors"),
        neutral=(neutral, neutral),
        example_label=labels[0] if labels else "all",
    )


def read_toml(file: str | Path) -> dict[str, Any]:
    """Content of a TOML file, UTF-8, at most 1 MB.

    Raises:
        InputError: missing, too large or not TOML; says in which line.
    """
    if sys.version_info >= (3, 11):
        import tomllib as toml
    else:
        import tomli as toml
    data = read_bytes(file, "a TOML file", most=MOST_BYTES)
    try:
        return toml.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(file, "a TOML file, in UTF-8", f"byte {error.start} that is none") from None
    except (toml.TOMLDecodeError, RecursionError) as error:
        raise InputError(file, "a TOML file", str(error)) from None


def _no_key(value: Any, place: str) -> Any:
    raise FieldError(place, f"one of the keys {', '.join(KEYS)}", f"no such key{nearest(place, KEYS)}")


def _require_keys_that_fit(file: Path, values: Mapping[str, Any]) -> None:
    """Refuse keys without those that they need, and pairs of which one would be ignored."""
    if "meshes" not in values and "landmarks" not in values:
        raise InputError(file, "meshes = or landmarks = , the folder of the data", "neither")
    if "meshes" in values and "format" not in values:
        raise InputError(file, f"format to be {' or '.join(FORMATS)}, of the files in meshes", "no format")
    for key in ("format", "frames"):
        if key in values and "meshes" not in values:
            raise InputError(file, f"meshes, which {key} is about", f"{key} alone")
    if "flame" in values and "embedding" in values:
        raise InputError(file, "flame or embedding, one of them", "both")
    labels = [canonical_label(label) for label in values.get("labels", ())]
    if len(set(labels)) < len(labels):
        raise InputError(
            file, "labels to be different", f"{next(label for label in labels if labels.count(label) > 1)} twice"
        )
    require_one_spelling(file, labels, "a label")
    require_one_spelling(file, values.get("test_subjects", ()), "a test subject")


def unnamed_dataset(remembered: str) -> Dataset:
    """Stands for a data set that a checkpoint names and whose file is not there: what it writes goes where the file
    would have it by default.
    """
    return Dataset(remembered, None, output=Path(remembered)) if remembered != OWN else DATASETS[OWN]
