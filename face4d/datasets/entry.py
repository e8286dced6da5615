"""What a data set is: one entry that says where its files lie, which steps apply to it, and what is learned and
tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.constants import (
    COMA_FRAMES,
    COMA_TEST_SUBJECTS,
    DEMO_VERTICES,
    FLAME_VERTICES,
    FLORENCE_LABELS,
    FLORENCE_TEST_SUBJECTS,
)
from face4d.datasets.layout import canonical_label
from face4d.errors import InputError
from face4d.runtime.files import require_name

if TYPE_CHECKING:  # it loads numpy, and parsing flags must not
    from face4d.landmarks import LandmarkEmbedding

FORMATS = ("ply", "obj")  # of meshes as they are delivered
FLAME = Path("models", "flame")
OWN = "own"  # landmarks or meshes that a flag names, and no data set


@dataclass(frozen=True)
class MeshFolder:
    """Mesh sequences of a data set that are used as they are.

    Attributes:
        folder: ``<subject>/<label>/`` with numbered frames, at any depth.
        format: of the frames as they are delivered, one of :data:`FORMATS`; step 1 makes PLY files of ``obj``.
        landmarks: the landmark folder that step 3 writes.
    """

    folder: Path
    format: str
    landmarks: Path


@dataclass(frozen=True)
class ResampledMeshes(MeshFolder):
    """Mesh sequences that step 2 brings to a fixed number of frames.

    Attributes:
        resampled: where it writes them.
        frames: frames per sequence, the neutral one included.
    """

    resampled: Path
    frames: int


@dataclass(frozen=True)
class Dataset:
    """One data set. Paths are relative to the working folder.

    Attributes:
        name: what ``--dataset`` calls it, and records of runs.
        landmarks: the landmark folder that training, generation and classification read; None = a flag has to name it.
        meshes: mesh sequences, the first those that ``landmarks`` and dense decoders are made from; none for landmarks
            alone.
        labels: what is learned, canonical; None = all found.
        test_subjects: subjects of the test set; none where they have to be named.
        output: folder that checkpoints, records, generated sequences, scores and figures lie in.
        flame: folder of FLAME's landmark embedding.
        embedding: landmark embedding of another topology, in place of ``flame``.
        vertices: V of the meshes, where that is known without reading any.
        actors: folder of ``<subject>.ply`` neutral meshes; None = frame 0 of a sequence is its neutral.
        neutral: neutral meshes to move, for ``run.sh`` and the next command: the first, and another.
        example_label: a label to move them with.
        grid: which of the thesis' grids ``--grid thesis`` runs, a key of ``THESIS_GRIDS`` of a model's configuration.
        thesis_name: what the thesis calls it in names of runs; None = the thesis has no runs of it.
        maker: words after ``python`` of the command that makes its files.
    """

    name: str
    landmarks: Path | None
    meshes: tuple[MeshFolder, ...] = ()
    labels: tuple[str, ...] | None = None
    test_subjects: tuple[str, ...] = ()
    output: Path = Path()
    flame: Path = FLAME
    embedding: Path | None = None
    vertices: int | None = None
    actors: Path | None = None
    neutral: tuple[Path, Path] = (Path("neutral.ply"), Path("my_neutral.ply"))
    example_label: str = "all"
    grid: str = "coma"
    thesis_name: str | None = None
    maker: tuple[str, ...] = ()

    @property
    def models(self) -> Path:
        """Folder of checkpoints."""
        return self.output / "models"

    @property
    def runs(self) -> Path:
        """Folder of records of training runs."""
        return self.output / "runs"

    @property
    def generated(self) -> Path:
        """Folder of generated sequences."""
        return self.output / "Generated_Animation"

    @property
    def results(self) -> Path:
        """Folder of scores."""
        return self.output / "results"

    @property
    def figures(self) -> Path:
        """Folder of figures and tables."""
        return self.output / "figures"

    def mesh_sequences(self) -> MeshFolder:
        """The mesh sequences that the landmarks are made from, and that dense decoders learn.

        Raises:
            InputError: there are landmarks alone.
        """
        if not self.meshes:
            raise InputError(
                f"--dataset {self.name}",
                "a data set with meshes (or a flag that names their folder)",
                "landmarks alone",
            )
        return self.meshes[0]

    def to_convert(self) -> MeshFolder:
        """The meshes of step 1: those delivered as OBJ files, else the first.

        Raises:
            InputError: there are landmarks alone.
        """
        return next((meshes for meshes in self.meshes if meshes.format == "obj"), None) or self.mesh_sequences()

    def to_resample(self) -> ResampledMeshes:
        """The meshes of step 2.

        Raises:
            InputError: it has none that are resampled; names the step that comes instead.
        """
        for meshes in self.meshes:
            if isinstance(meshes, ResampledMeshes):
                return meshes
        self.mesh_sequences()
        raise InputError(
            f"--dataset {self.name}",
            "a data set with meshes that step 2 resamples",
            "another kind (get_animation_landmark_ply.py takes its landmarks)",
        )

    def to_use_as_they_are(self) -> MeshFolder:
        """The meshes whose landmarks are taken without resampling.

        Raises:
            InputError: it has none; names the step that comes instead.
        """
        for meshes in self.meshes:
            if not isinstance(meshes, ResampledMeshes):
                return meshes
        self.mesh_sequences()
        raise InputError(
            f"--dataset {self.name}",
            "a data set with meshes that are used as they are",
            "another kind (sampling_coma.py and get_landmark_coma.py take its landmarks)",
        )

    def landmark_embedding(
        self, flame: Path | None = None, embedding: Path | None = None, contour_angle: float = 0.0
    ) -> LandmarkEmbedding:
        """Where the landmarks lie on its meshes: by a file or folder given, else as the entry says.

        Raises:
            InputError: see :func:`face4d.datasets.extraction.choose_embedding`.
        """
        from face4d.datasets.extraction import choose_embedding

        own = embedding or (None if flame else self.embedding)
        return choose_embedding(flame or self.flame, own, contour_angle)


DEMO_TEST_SUBJECTS: tuple[str, ...] = ("Demo05", "Demo06")
_DEMO = Path("demo")

DATASETS: dict[str, Dataset] = {}
"""The data sets by name; :func:`register` adds one, :func:`face4d.datasets.own.find_dataset` also knows those of a TOML
file.
"""


def register(entry: Dataset) -> Dataset:
    """Add a data set, with the labels in their one spelling.

    Raises:
        InputError: no name, one that is taken, or a label or test subject that is none.
    """
    require_name("data set", "a name", entry.name)
    if entry.name in DATASETS:
        raise InputError("data set", "a name that is free", entry.name)
    require_names(entry.name, "a label", entry.labels or ())
    require_names(entry.name, "a test subject", entry.test_subjects)
    if entry.labels is not None and entry.labels != tuple(map(canonical_label, entry.labels)):
        raise InputError(entry.name, "labels with dashes for underscores", ", ".join(entry.labels))
    DATASETS[entry.name] = entry
    return entry


def require_names(path: str | Path, what: str, names: Sequence[str]) -> None:
    """Refuse names that could not be part of a file's name; see :func:`face4d.runtime.files.require_name`."""
    for name in names:
        require_name(path, what, name)


_COMA_LANDMARKS = Path("Landmark_dataset_flame_aligned_coma")
_FLORENCE_LANDMARKS = Path("Landmark_dataset_flame_aligned")

register(
    Dataset(
        "coma",
        _COMA_LANDMARKS,
        (ResampledMeshes(Path("Dataset_FLAME_Aligned_COMA"), "ply", _COMA_LANDMARKS, Path("sampling"), COMA_FRAMES),),
        test_subjects=COMA_TEST_SUBJECTS,
        vertices=FLAME_VERTICES,
        example_label="mouth_open",
        thesis_name="COMA",
    )
)
register(
    Dataset(
        "florence",
        _FLORENCE_LANDMARKS,
        (MeshFolder(Path("Dataset_FLAME_Aligned"), "obj", _FLORENCE_LANDMARKS),),
        labels=FLORENCE_LABELS,
        test_subjects=FLORENCE_TEST_SUBJECTS,
        vertices=FLAME_VERTICES,
        example_label="Happy",
        grid="florence",
        thesis_name="COMA_Florence",
    )
)
register(
    Dataset(
        "demo",
        _DEMO / _COMA_LANDMARKS,
        (
            ResampledMeshes(
                _DEMO / "Dataset_FLAME_Aligned_COMA", "ply", _DEMO / _COMA_LANDMARKS, _DEMO / "sampling", COMA_FRAMES
            ),
            MeshFolder(_DEMO / "Dataset_FLAME_Aligned", "obj", _DEMO / _FLORENCE_LANDMARKS),
        ),
        test_subjects=DEMO_TEST_SUBJECTS,
        output=_DEMO,
        flame=_DEMO / FLAME,
        vertices=DEMO_VERTICES,
        neutral=(_DEMO / "actors" / "Demo06.ply", _DEMO / "actors" / "Demo05.ply"),
        example_label="mouth_open",
        maker=("-m", "face4d", "demo", "--output", "demo"),
    )
)
register(Dataset(OWN, None))
