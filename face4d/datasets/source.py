"""Where landmark data comes from: chosen by hand, remembered by a checkpoint, or by a data set's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.datasets import companions
from face4d.datasets.entry import DATASETS, OWN, Dataset
from face4d.datasets.layout import canonical_label
from face4d.datasets.own import find_dataset, unnamed_dataset
from face4d.errors import InputError
from face4d.runtime.fields import NAMES, list_of, name, optional, record, text

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    import numpy as np

    from face4d.datasets.landmark_set import LandmarkSplit
    from face4d.landmarks import LandmarkEmbedding

DEFAULT = "florence"  # the data set of the training scripts

SOURCE = record(
    {
        "dataset": optional(name),
        "landmarks": optional(text),
        "test_subjects": optional(NAMES),
        "labels": optional(list_of(name, 1)),
        "actors": optional(text),
        "flame": optional(text),
        "landmark_embedding": optional(text),
    }
)
"""What files say of a :class:`DataSource`; checkpoints of models that were trained on other data say less."""


@dataclass(frozen=True)
class DataSource:
    """Where landmark data comes from, all defaults filled in.

    Attributes:
        entry: the data set; ``own`` for landmarks that belong to none.
        landmarks, test_subjects, actors, flame, landmark_embedding: see :func:`choose_source`.
        labels: wanted labels, canonical; None = all found.
        owner: the checkpoint whose memory filled in what was not asked for, None in training.
        given: names of what was asked for.
    """

    entry: Dataset
    landmarks: Path
    test_subjects: tuple[str, ...]
    labels: tuple[str, ...] | None
    actors: Path | None
    flame: Path
    landmark_embedding: Path | None
    owner: Path | None = None
    given: frozenset[str] = frozenset()

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.entry.name

    def companion(self, name: str | Path) -> Path:
        """A file of the working folder that the checkpoint belongs to; the name itself where there is none."""
        return (self.owner and companions.find(self.owner, name)) or Path(name)

    def _require(self, name: str, what: str, helps: str) -> Path:
        """One of the paths; a line that names the flag where only the checkpoint knew it, and nothing is there."""
        path = getattr(self, name)
        return (
            path
            if self.owner is None or name in self.given
            else companions.require(self.owner, path, what, f"{helps} another place")
        )

    def embedding(self) -> LandmarkEmbedding:
        """The landmark embedding of meshes.

        Raises:
            InputError: see :func:`face4d.datasets.extraction.choose_embedding`; or not where the checkpoint remembers
                it.
        """
        from face4d.datasets.extraction import choose_embedding

        own, flame = self.landmark_embedding, self.flame
        if own is not None:
            own = self._require("landmark_embedding", "the landmark embedding", "--landmark-embedding FILE names")
        else:
            where = (
                "models/README.md tells where FLAME's files come from, --flame DIR or --landmark-embedding FILE names"
            )
            flame = self._require("flame", "the landmark embedding", where)
        return choose_embedding(flame, own)

    def topology(self) -> companions.Topology | None:
        """What the landmarks lie on: as the embedding has it or, where its files are not there, as the data set is;
        None where that is unknown.
        """
        from face4d.landmarks import TEMPLATE_FILE

        if (self.landmark_embedding or self.flame / TEMPLATE_FILE).is_file():
            embedding = self.embedding()
            return companions.Topology(embedding.num_vertices, embedding.faces)
        if self.landmark_embedding is not None:
            return None
        return companions.Topology(self.entry.vertices) if self.entry.vertices else None

    def neutrals(self) -> dict[str, np.ndarray] | None:
        """Neutral landmarks of the actors, (68, 3) metres by subject; None without ``--actors``."""
        if self.actors is None:
            return None
        from face4d.datasets.mesh_set import load_actors

        return load_actors(self._require("actors", "the neutral faces", "--actors DIR names"), self.embedding())

    def load(self, labels: Sequence[str] | None = None) -> LandmarkSplit:
        """The training and test sequences of ``labels`` (default: the wanted ones)."""
        from face4d.datasets.landmark_set import holds_srvf_samples, load_split, load_srvf_samples

        self._require("landmarks", "the landmarks", "--landmarks DIR names")
        if holds_srvf_samples(self.landmarks):
            # a data set's choice of labels is not meant for these
            wanted = self.labels if "labels" in self.given else None
            for name in ("test_subjects", "actors"):
                if name in self.given:
                    flag = f"--{name.replace('_', '-')}"
                    raise InputError(flag, "landmark files (.npy) with it", f"SRVF samples in {self.landmarks}")
            split = load_srvf_samples(self.landmarks, labels or wanted)
        else:
            split = load_split(
                self.landmarks, labels=labels or self.labels, test_subjects=self.test_subjects, neutrals=self.neutrals()
            )
            self._require_named(split)
        return replace(split, source=self.as_dict())

    def _require_named(self, split: LandmarkSplit) -> None:
        """Refuse test subjects asked for that are not those of the set, and one that one's own entry names and that
        trains: a folder of two halves is split already, and a name may be wrong.
        """
        tested, trained = ({sequence.subject for sequence in half} for half in (split.test, split.train))
        expected = f"test subjects {', '.join(sorted(tested))}, which are those of {self.landmarks}"
        if self.owner is None and "test_subjects" in self.given and set(self.test_subjects) != tested:
            raise InputError("--test-subjects", expected, ", ".join(self.test_subjects))
        if self.entry.name not in DATASETS and (wrong := sorted(trained & set(self.entry.test_subjects))):
            raise InputError(f"{self.dataset}.toml", expected, f"{', '.join(wrong)}, in the training set")

    def words(self) -> list[str]:
        """Words of a command that name these data again."""
        named = [] if self.dataset == OWN else ["--dataset", self.dataset]
        usual = self.entry.landmarks is not None and self.landmarks.resolve() == self.entry.landmarks.resolve()
        here = Path.cwd()
        place = self.landmarks.relative_to(here) if self.landmarks.is_relative_to(here) else self.landmarks
        named += [] if usual else ["--landmarks", str(place)]
        others = set(self.test_subjects) != set(self.entry.test_subjects)
        return named + (["--test-subjects", *self.test_subjects] if others else [])

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary for checkpoints; paths as typed."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("entry", "owner", "given")
        }
        values = {"dataset": self.dataset, **values}
        return {
            key: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
        }


def choose_source(
    *,
    dataset: str | None = None,
    landmarks: Path | None = None,
    test_subjects: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    actors: Path | None = None,
    flame: Path | None = None,
    landmark_embedding: Path | None = None,
    remembered: Mapping[str, Any] | None = None,
    owner: Path | None = None,
) -> DataSource:
    """What was asked for; the rest from a checkpoint's memory, unless a data set is named, then from the data set's
    defaults.

    Args:
        dataset: name of a data set.
        landmarks: landmark folder, with ``dataset_training`` and ``dataset_testing`` or plain.
        test_subjects: test set of a plain folder.
        labels: labels to learn.
        actors: folder of ``<subject>.ply`` neutral meshes.
        flame: folder of FLAME's landmark embedding; replaces a remembered ``landmark_embedding``.
        landmark_embedding: npz of one's own topology.
        remembered: what a checkpoint says of its data.
        owner: that checkpoint; paths in it are looked for from where it lies (:func:`face4d.datasets.companions.find`).

    Raises:
        InputError: a data set that is none, or no landmark folder.
    """
    memory: Mapping[str, Any] = remembered or {} if remembered and dataset is None else {}
    entry = _entry(dataset, landmarks, memory, owner)
    asked = {"landmarks": landmarks, "actors": actors, "flame": flame, "landmark_embedding": landmark_embedding}

    def path(name: str, default: Path | None) -> Path | None:
        value = asked[name]
        if value:
            return Path(value)
        if name == "landmark_embedding" and flame:  # the folder replaces either
            return None
        recorded = memory.get(name) or default
        return recorded and ((owner and companions.find(owner, recorded)) or Path(recorded))

    place = path("landmarks", entry.landmarks)
    if place is None:
        raise InputError("--landmarks", f"the landmark folder of {entry.name} data", "none")
    return DataSource(
        entry=entry,
        landmarks=place,
        test_subjects=tuple(test_subjects or memory.get("test_subjects") or entry.test_subjects),
        labels=tuple(map(canonical_label, labels)) if labels else entry.labels,
        actors=path("actors", entry.actors),
        flame=path("flame", entry.flame) or entry.flame,
        landmark_embedding=path("landmark_embedding", entry.embedding),
        owner=owner,
        given=frozenset(
            name for name, value in {**asked, "labels": labels, "test_subjects": test_subjects}.items() if value
        ),
    )


def _entry(dataset: str | None, landmarks: Path | None, memory: Mapping[str, Any], owner: Path | None) -> Dataset:
    """The data set asked for, else the remembered one; else Florence or, where landmarks are named by hand, none of the
    known ones.
    """
    if dataset is not None:
        return find_dataset(dataset)
    if memory.get("dataset") is not None:
        try:
            return find_dataset(memory["dataset"], owner)
        except InputError:
            if memory.get("landmarks") is None:
                raise
            return unnamed_dataset(memory["dataset"])  # its file is not here; the paths are remembered
    return DATASETS[OWN if landmarks or memory.get("landmarks") else DEFAULT]
