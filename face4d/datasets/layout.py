"""Names: how labels, subjects and sequences are spelled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from face4d.errors import InputError, nearest
from face4d.runtime.files import has_suffix, is_hidden

TRAIN_FOLDER = "dataset_training"
TEST_FOLDER = "dataset_testing"
SAMPLE_PREFIX = "sample_"


def canonical_label(label: str) -> str:
    """The one spelling of a label: dashes instead of underscores (``mouth_open`` -> ``mouth-open``)."""
    return label.strip().replace("_", "-")


def sequence_name(label: str, subject: str) -> str:
    """Stem of a sequence's file, ``<label>_<subject>`` (``mouth-open_FaceTalk_170725_00137_TA``)."""
    return f"{canonical_label(label)}_{subject}"


def parse_sequence_name(path: str | Path) -> tuple[str, str]:
    """Label and subject of a sequence's file name; the label has no underscore, the subject may.

    Raises:
        InputError: the stem is not ``<label>_<subject>``.
    """
    path = Path(path)
    label, separator, subject = path.stem.partition("_")
    if not (label and separator and subject):
        raise InputError(path, "a name <label>_<subject>" + path.suffix, f"{path.name!r}")
    return label, subject


def require_one_spelling(root: str | Path, names: Iterable[str], what: str) -> None:
    """Refuse names that differ in capital letters alone: they would be two classes, or two people, and one file on
    other systems.

    Raises:
        InputError: naming both.
    """
    known: dict[str, str] = {}
    for name in sorted(set(names)):
        if known.setdefault(name.casefold(), name) != name:
            raise InputError(root, f"one spelling of {what}", f"{known[name.casefold()]} and {name}")


def require_distinct(root: str | Path, named: Iterable[tuple[str, str, Path]], what: str) -> None:
    """Refuse two sequences of one label and subject, and names that differ in capital letters alone.

    Args:
        named: label, subject and place of each.
        what: a place is (``file``, ``sequence``).

    Raises:
        InputError: naming both.
    """
    places: dict[tuple[str, str], Path] = {}
    for label, subject, place in named:
        if (label, subject) in places:
            raise InputError(place, f"one {what} of {label}, {subject}", f"also {places[label, subject]}")
        places[label, subject] = place
    require_one_spelling(root, (label for label, _ in places), "a label")
    require_one_spelling(root, (subject for _, subject in places), "a subject")


def landmark_paths(folder: str | Path) -> list[Path]:
    """Visible ``.npy`` files below ``folder`` at any depth, in small or capital letters, sorted."""
    return [path for path in visible_paths(folder) if has_suffix(path, (".npy",))]


def visible_paths(folder: str | Path) -> list[Path]:
    """Files and folders with a suffix below ``folder``, at any depth, sorted; hidden ones and what lies in hidden
    folders are left out.
    """
    return [
        path
        for path in sorted(Path(folder).rglob("*.*"))
        if not any(is_hidden(part) for part in path.relative_to(folder).parts)
    ]


def sample_name(number: int) -> str:
    """Folder of one of several answers of a stochastic generator, ``sample_00``, ``sample_01``, ...; each holds a whole
    generated set.
    """
    return f"{SAMPLE_PREFIX}{number:02d}"


def sample_folders(folder: str | Path) -> list[Path]:
    """The ``sample_<number>`` folders directly below ``folder``, by number; none for a generator that answers once."""
    number = {
        path: path.name.removeprefix(SAMPLE_PREFIX) for path in Path(folder).glob(f"{SAMPLE_PREFIX}*") if path.is_dir()
    }
    return sorted((path for path in number if number[path].isdecimal()), key=lambda path: int(number[path]))


def last_fifth(subjects: Iterable[str]) -> tuple[str, ...]:
    """The last of the sorted subjects, at least one: those held out where nobody says which."""
    ordered = sorted(set(subjects))
    return tuple(ordered[-max(1, len(ordered) // 5) :])


def choose(wanted: Sequence[str], available: Iterable[str], what: str, where: str | Path) -> tuple[str, ...]:
    """Those of ``available`` that are wanted, sorted; ``("all",)`` means every one.

    Raises:
        InputError: a wanted name is not available; the message lists the known ones and the nearest.
    """
    known = sorted(set(available))
    if list(wanted) == ["all"]:
        return tuple(known)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(
            where, f"{what} {', '.join(missing)}", f"only {', '.join(known) or 'none'}{nearest(missing[0], known)}"
        )
    return tuple(name for name in known if name in set(wanted))
