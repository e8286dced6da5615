"""Templates: the heads whose vertex order a registered scan gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from face4d.demo.head import finely_shaped, head_of
from face4d.errors import InputError
from face4d.flame.model import NEUTRAL_MODELS, OTHER_MODELS, FlameModel, find_model, load_flame_model
from face4d.landmarks import TEMPLATE_FILE, LandmarkEmbedding, check_mesh, extract, load_embedding, load_flame_embedding
from face4d.mesh.sequence import read_mesh

DEMO = "demo"
_IDENTITY, _EXPRESSION = 100, 30  # directions of a model that are used, the largest


@dataclass(frozen=True)
class Template:
    """A head.

    Attributes:
        name: of it, for people.
        vertices: (V, 3) float64 metres, upright, looking along +z.
        embedding: its triangles and its 68 landmarks.
        directions: (K, V, 3) metres per deviation, in which a model says that heads differ; K = 0 without a model.
        held: (V,) bool, parts that keep the template's shape: those too coarse to follow a scan's.
    """

    name: str
    vertices: np.ndarray
    embedding: LandmarkEmbedding
    directions: np.ndarray = field(repr=False)
    held: np.ndarray = field(repr=False)

    @property
    def faces(self) -> np.ndarray:
        """(F, 3)."""
        return self.embedding.faces

    @property
    def landmarks(self) -> np.ndarray:
        """(68, 3) metres."""
        return extract(self.embedding, self.vertices)


def load_template(
    flame: str | Path, mesh: str | Path | None = None, landmark_embedding: str | Path | None = None
) -> Template:
    """The template of a folder, or of a mesh.

    Args:
        flame: folder of landmark files (and of the model, where it is there) of FLAME's format, or ``demo``.
        mesh: a head of the topology of these landmarks, in place of the folder's.
        landmark_embedding: npz with the landmarks of a mesh of any other topology.

    Raises:
        InputError: a missing file, one of other content, or a mesh of another topology.
    """
    if landmark_embedding is not None:
        if mesh is None:
            raise InputError("--landmark-embedding", "the mesh that it belongs to (--template FILE)", "none")
        embedding, model, name = load_embedding(landmark_embedding), None, str(mesh)
    elif str(flame) == DEMO:
        from face4d.demo.flame import demo_embedding, demo_flame_model

        embedding, model, name = demo_embedding(), demo_flame_model(), "the demo head"
    else:
        embedding, model, name = load_flame_embedding(flame), _model(Path(flame)), str(flame)
    if mesh is not None:
        vertices, faces = read_mesh(mesh)
        try:
            check_mesh(mesh, vertices, faces, embedding)
        except InputError as error:
            raise InputError(
                error.path, f"{error.expected} or --landmark-embedding FILE with its landmarks", error.found
            ) from None
        name = str(mesh)
    elif model is not None:
        vertices = model.template
    else:
        vertices = read_mesh(Path(flame) / TEMPLATE_FILE)[0]
    demo = head_of(len(vertices), embedding.faces)
    held = np.zeros(len(vertices), bool) if demo is None else finely_shaped(demo)
    return Template(name, vertices.astype(np.float64), embedding, _directions(model, held), held)


def _directions(model: FlameModel | None, held: np.ndarray) -> np.ndarray:
    """The largest directions of a model, without those that move above all what is held (V,): they would close eyes."""
    if model is None:
        return np.zeros((0, len(held), 3))
    parts = (model.shape_directions[..., :_IDENTITY], model.expression_directions[..., :_EXPRESSION])
    directions = np.concatenate([np.moveaxis(part.astype(np.float64), 2, 0) for part in parts])
    size = np.square(directions).sum(axis=2)  # (K, V)
    return directions[size[:, held].sum(axis=1) <= 0.5 * size.sum(axis=1)]


def _model(folder: Path) -> FlameModel | None:
    """The FLAME-format model of a folder, None where it has only the landmark files."""
    names = {path.stem.lower() for path in folder.iterdir() if path.suffix.lower() in (".pkl", ".npz")}
    return load_flame_model(find_model(folder)) if names & {*NEUTRAL_MODELS, *OTHER_MODELS} else None
