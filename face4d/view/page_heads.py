"""What the page of moving heads shows: real, generated and trivial motions of the test sets that were scored, and the
surfaces that go with them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from face4d.classification.classifier import load_classifier
from face4d.datasets import companions
from face4d.datasets.entry import OWN, ResampledMeshes
from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit, read_landmarks, stack
from face4d.datasets.layout import sample_folders
from face4d.datasets.mesh_set import actor_path
from face4d.datasets.source import DataSource, choose_source
from face4d.dense.config import DEFAULT_DECODER
from face4d.dense.decode import DenseDecoder, load_decoder
from face4d.errors import InputError
from face4d.evaluation.predictors import class_mean
from face4d.evaluation.results import RECORD, Key, Scored, sequence_files
from face4d.evaluation.surfaces import MeshFiles, find_meshes
from face4d.generation.sample import Generator, load_generator
from face4d.landmarks import read_head
from face4d.view.page_steered import runs_in_page

__all__ = ["MEAN", "REAL", "Motion", "Surfaces", "TestMotions", "find_motions"]

log = logging.getLogger(__name__)

REAL, MEAN = "real", "class mean"
MOST_SAMPLES = 5  # of one generator
MOST_MOTIONS = 480  # of one test set: 140 sequences of three methods


@dataclass(frozen=True)
class Motion:
    """One motion of one face.

    Attributes:
        method: real, the name of a scoring, or class mean.
        sample: which of several answers.
        label, subject: of the sequence.
        landmarks: (T, 68, 3) metres.
        surface: gives the vertices (T, V, 3) in metres; None where there are landmarks alone.
    """

    method: str
    sample: int
    label: str
    subject: str
    landmarks: np.ndarray
    surface: Callable[[], np.ndarray] | None = None

    @property
    def key(self) -> Key:
        return self.label, self.subject


@dataclass(frozen=True)
class Surfaces:
    """What moves the faces of a test set.

    Attributes:
        decoder: from landmarks to surfaces.
        heads: (V, 3) neutral face of every sequence, metres.
        files: mesh of each subject's neutral face.
        real: real meshes of the sequences ``rows``, None where there are none.
        rows: place of every sequence in ``real``.
    """

    decoder: DenseDecoder
    heads: dict[Key, np.ndarray]
    files: dict[str, Path]
    real: MeshFiles | None
    rows: dict[Key, int]

    def decoded(self, key: Key, displacement: np.ndarray) -> np.ndarray:
        """(T, V, 3) metres, for landmark displacements (T, 68, 3) of a sequence."""
        return self.decoder.decode(displacement, self.heads[key])

    def recorded(self, key: Key) -> np.ndarray:
        """(T, V, 3) metres, the real meshes."""
        assert self.real is not None
        row = self.rows[key]
        return np.stack([self.real.vertices(row, frame) for frame in range(len(self.real.paths[row]))])


@dataclass
class TestMotions:
    """The motions of one test set.

    Attributes:
        name: of the data set.
        neutrals: (68, 3) metres, what the motion of every sequence starts from.
        surfaces: None where there are landmarks alone.
        motions: of all methods, the real ones first.
        steered: generators that follow controls, by the name of their run.
        notes: what is not shown and why, in sentences.
    """

    name: str
    neutrals: dict[Key, np.ndarray]
    surfaces: Surfaces | None = None
    motions: list[Motion] = field(default_factory=list)
    steered: dict[str, Generator] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, method: str, sample: int, key: Key, landmarks: np.ndarray) -> None:
        """Add a motion, the surface as its decoder makes it or, of the real ones, as it was recorded."""
        surface = None
        if self.surfaces is not None and key in self.surfaces.heads:
            if method == REAL and key in self.surfaces.rows:
                surface = partial(self.surfaces.recorded, key)
            else:
                surface = partial(self.surfaces.decoded, key, landmarks - self.neutrals[key])
        self.motions.append(Motion(method, sample, *key, landmarks, surface))


Truth = Mapping[Key, Path]


def find_motions(
    scored: Sequence[tuple[Scored, Truth]], datasets: Sequence[str | None], steered: Sequence[str]
) -> list[TestMotions]:
    """The motions of all scorings, those of one test set together.

    Args:
        scored: scorings, each with the ground truth of its sequences; the first come first.
        datasets: name of the data set of each, None where it is not known.
        steered: names of training runs of generators that follow controls.
    """
    groups: dict[tuple[Path, ...], list[tuple[Scored, Truth]]] = {}
    names: dict[tuple[Path, ...], str | None] = {}
    for (one, truth), name in zip(scored, datasets):
        if one.generated:
            place = tuple(sorted({path.parent.resolve() for path in truth.values()})) or (one.folder.resolve(),)
            groups.setdefault(place, []).append((one, truth))
            names[place] = names.get(place) or name
    return [_test_motions(group, names[place], steered) for place, group in groups.items()]


def _test_motions(group: Sequence[tuple[Scored, Truth]], name: str | None, steered: Sequence[str]) -> TestMotions:
    scored, truth = group[0]
    owner = scored.folder / RECORD
    keys = sorted({key for one, _ in group for key in one.generated})
    most = max(1, MOST_MOTIONS // len(keys) - 2)  # beside the real ones and the class mean
    group, left_out = group[:most], group[most:]
    keys, more = keys[: MOST_MOTIONS // 3], keys[MOST_MOTIONS // 3 :]
    real = {key: read_landmarks(truth[key]) for key in keys if key in truth}
    source = _source(scored, name, owner)
    split = _split(source, scored.labels)
    neutrals = {key: landmarks[0] for key, landmarks in real.items()}
    for one, _ in group:
        neutrals |= {
            key: read_landmarks(one.generated[key])[0] for key in keys if key in one.generated.keys() - neutrals
        }
    if split:
        known = {(one.label, one.subject): one.neutral for one in split.test}
        neutrals |= {key: known[key] for key in neutrals if key in known}
    found = TestMotions((source.dataset if source and source.dataset != OWN else None) or name or scored.name, neutrals)
    if left_out:
        found.notes.append(f"{found.name}: not in this page are {', '.join(one.name for one, _ in left_out)}.")
    if more:
        found.notes.append(f"{found.name}: {len(keys)} of {len(keys) + len(more)} test sequences are in this page.")
    if source:
        wanted = [LandmarkSequence(truth[key], *key, real[key], neutrals[key]) for key in real]
        try:
            found.surfaces = _surfaces(source, owner, wanted)
        except InputError as error:
            found.notes.append(f"{found.name}: landmarks alone, without surface. {error}")
        found.steered = _steered(source, owner, steered, found.notes)
    for key, landmarks in real.items():
        found.add(REAL, 0, key, landmarks)
    for one, _ in group:
        _add_generated(found, one, keys)
    if split:
        _add_class_mean(found, split, real)
    return found


def _source(scored: Scored, name: str | None, owner: Path) -> DataSource | None:
    """Where the data of a scoring came from: as its classifier remembers it, else by the data set's name."""
    try:
        classifier = companions.find(owner, scored.content.get("classifier") or "")
        remembered = load_classifier(classifier).source if classifier and classifier.is_file() else None
        if remembered is None and name is None:
            return None
        memory = remembered or {"dataset": name, "landmarks": scored.content.get("landmarks")}
        return choose_source(remembered=memory, owner=classifier if remembered else owner)
    except InputError as error:
        log.info("%s: %s", owner, error)
        return None


def _split(source: DataSource | None, labels: Sequence[str]) -> LandmarkSplit | None:
    try:
        return source.load(labels) if source else None
    except InputError as error:
        log.info("no class mean: %s", error)
        return None


def _surfaces(source: DataSource, owner: Path, wanted: Sequence[LandmarkSequence]) -> Surfaces:
    """The decoder of a data set, the real meshes and the neutral ones.

    Raises:
        InputError: there is no decoder, or no neutral face; says how to get one.
    """
    name = source.entry.models / f"dense_{source.dataset}_{DEFAULT_DECODER}.pt"
    path = companions.find(owner, name)
    if path is None:
        command = f"python Sparse2Dense/main.py --dataset {source.dataset}"
        raise InputError(name, f"a decoder from landmarks to meshes ({command} trains it)", "no such file")
    decoder = load_decoder(path)
    real, rows = _real_meshes(source, owner, decoder, wanted)
    keys = [(one.label, one.subject) for one in wanted]
    if source.actors is not None:
        files = {subject: actor_path(source.actors, subject) for _, subject in keys}
        heads = {subject: read_head(file, decoder.embedding)[0] for subject, file in files.items()}
        return Surfaces(decoder, {key: heads[key[1]] for key in keys}, files, real, rows)
    if real is None:
        raise InputError(path, "neutral faces to move: the meshes of the test set, or --actors DIR", "neither")
    files = {subject: real.paths[rows[label, subject]][0] for label, subject in reversed(keys)}
    return Surfaces(decoder, {key: real.vertices(rows[key], 0) for key in keys}, files, real, rows)


def _real_meshes(
    source: DataSource, owner: Path, decoder: DenseDecoder, wanted: Sequence[LandmarkSequence]
) -> tuple[MeshFiles | None, dict[Key, int]]:
    if not source.entry.meshes or not wanted:
        return None, {}
    meshes = source.entry.meshes[0]
    folder = meshes.resampled if isinstance(meshes, ResampledMeshes) else meshes.folder
    try:
        real = find_meshes(companions.find(owner, folder) or folder, decoder.embedding, wanted)
    except InputError as error:
        log.info("no real meshes: %s", error)
        return None, {}
    return real, {(one.label, one.subject): row for row, one in enumerate(wanted)}


def _steered(source: DataSource, owner: Path, names: Sequence[str], notes: list[str]) -> dict[str, Generator]:
    """The generators that follow controls of a data set, as far as the page can run them."""
    found: dict[str, Generator] = {}
    for name in names:
        path = companions.find(owner, source.entry.models / f"{name}.pt")
        if path is None:
            continue
        try:
            generator = load_generator(path)
        except InputError as error:
            notes.append(f"{name}: {error}")
            continue
        if generator.source.get("dataset") != source.dataset or not generator.controlled:
            continue
        if runs_in_page(generator):
            found[name] = generator
        else:
            notes.append(f"{name} is not run in this page: it is a flow, or too large; test.py steers it.")
    return found


def _add_generated(found: TestMotions, scored: Scored, keys: Sequence[Key]) -> None:
    """The generated motions of a scoring, of several samples the first ones."""
    place = companions.find(scored.folder / RECORD, scored.content.get("generated") or "")
    samples = sample_folders(place) if place and place.is_dir() else []
    if len(samples) > MOST_SAMPLES:
        found.notes.append(f"{scored.name}: {MOST_SAMPLES} of {len(samples)} samples are in this page.")
    files = [sequence_files(sample) for sample in samples[:MOST_SAMPLES]] or [scored.generated]
    for number, paths in enumerate(files):
        for key in keys:
            if key in paths:
                found.add(scored.name, number, key, read_landmarks(paths[key]))


def _add_class_mean(found: TestMotions, split: LandmarkSplit, real: Mapping[Key, np.ndarray]) -> None:
    """The mean motion of the training sequences of each label, where these are as long as the real one."""
    train, indices = stack(split.train, split.labels)
    keys = [key for key, own in real.items() if key[0] in split.labels and len(own) == train.shape[1]]
    if keys:
        wanted = np.array([split.labels.index(label) for label, _ in keys])
        for key, moved in zip(keys, class_mean(train, indices, wanted)):
            found.add(MEAN, 0, key, found.neutrals[key] + moved)
