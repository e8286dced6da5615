"""The 68 landmarks of a mesh: barycentric points on faces of one topology.

Order: 17 contour points (jaw line, from the subject's right to the left), then 51 static points (brows, nose, eyes,
mouth).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from face4d.constants import NUM_CONTOUR, NUM_LANDMARKS, NUM_STATIC
from face4d.errors import InputError
from face4d.mesh.obj import read_obj
from face4d.mesh.plausibility import Remark, check_face, face_remarks, face_size, report
from face4d.mesh.ply import read_ply_vertices
from face4d.mesh.sequence import iterate_vertices, read_mesh
from face4d.mesh.triangles import check_topology
from face4d.runtime.arrays import load_npz, numbers
from face4d.runtime.atomic import replacing
from face4d.runtime.safe_pickle import load_npy, load_pickle

MAX_CONTOUR_ANGLE = 39  # degrees either way: rows 0..39 of the contour table are 0..39, rows 40..78 are -1..-39
CONTOUR_ROWS = 2 * MAX_CONTOUR_ANGLE + 1
MOST_VERTICES = 10_000_000  # of a topology
_ROUNDING = 1e-3  # of barycentric weights

STATIC_FILE, DYNAMIC_FILE, TEMPLATE_FILE = "flame_static_embedding.pkl", "flame_dynamic_embedding.npy", "template.obj"
_SOURCES = {
    STATIC_FILE: "from the FLAME site, https://flame.is.tue.mpg.de (also in the RingNet repository, "
    "folder flame_model)",
    DYNAMIC_FILE: "from the RingNet repository, https://github.com/soubhiksanyal/RingNet, folder flame_model",
    TEMPLATE_FILE: "FLAME template mesh with 5023 vertices, from the CoMA or Sparse2Dense repository "
    "(template/template.obj)",
}


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Where the 68 landmarks lie on a mesh.

    Attributes:
        face_idx: (68,) int64, the face of each landmark.
        bary: (68, 3) float64, weights of that face's corners, rows sum to 1.
        faces: (F, 3) int32, triangles of the topology.
        num_vertices: V of the topology.
        contour_face_idx: (79, 17) int64 faces of the contour points for all head angles, or None.
        contour_bary: (79, 17, 3) float64, their weights, or None.
    """

    face_idx: np.ndarray
    bary: np.ndarray
    faces: np.ndarray
    num_vertices: int
    contour_face_idx: np.ndarray | None = None
    contour_bary: np.ndarray | None = None

    @cached_property
    def corners(self) -> np.ndarray:
        """(68, 3) int64 vertex indices: the only vertices that :func:`extract` reads."""
        return self.faces[self.face_idx].astype(np.int64)

    def at_contour_angle(self, degrees: float) -> LandmarkEmbedding:
        """The same embedding with the contour for a head turned by ``degrees``; see :func:`contour_row`.

        Raises:
            InputError: no contour table, or an angle outside the table.
        """
        row = contour_row(degrees)
        if self.contour_face_idx is None or self.contour_bary is None:
            if row == 0:
                return self
            raise InputError("contour angle", "0 (this embedding has no contour table)", f"{degrees:g}")
        face_idx, bary = self.face_idx.copy(), self.bary.copy()
        face_idx[:NUM_CONTOUR], bary[:NUM_CONTOUR] = self.contour_face_idx[row], self.contour_bary[row]
        return replace(self, face_idx=face_idx, bary=bary)

    def on_jaw_line(self, vertices: np.ndarray) -> LandmarkEmbedding:
        """The same embedding with a contour for all views: on either side the row of the table that lies farthest back.

        These are points of the jaw's edge from ear to chin, as the 68 three-dimensional landmarks of 300W-LP and
        AFLW2000-3D are; the contour of a head that looks ahead lies farther forward on the cheek.

        Args:
            vertices: (V, 3) of a head that looks along +z.

        Raises:
            InputError: no contour table.
        """
        sides = [self.at_contour_angle(angle) for angle in (MAX_CONTOUR_ANGLE, -MAX_CONTOUR_ANGLE)]
        face_idx, bary = self.face_idx.copy(), self.bary.copy()
        middle = NUM_CONTOUR // 2
        for half in (slice(0, middle), slice(middle + 1, NUM_CONTOUR)):
            back = min(sides, key=lambda side: extract(side, vertices)[half, 2].mean())
            face_idx[half], bary[half] = back.face_idx[half], back.bary[half]
        return replace(self, face_idx=face_idx, bary=bary)


def contour_row(degrees: float) -> int:
    """Row of the contour table for a head turned by ``degrees``, rounded to whole degrees.

    Rows 0..39 are 0..+39 degrees, rows 40..78 are -1..-39 degrees. The sign follows from the geometry of the table:
    with growing positive angle the points on the subject's left cheek (+x) move forward (+z) to where that cheek hides
    itself, so positive means a face turned to its own left, a right-handed rotation about +y seen by a camera on +z.

    Raises:
        InputError: beyond 39 degrees either way, where the table ends.
    """
    if not abs(degrees) <= MAX_CONTOUR_ANGLE:
        raise InputError("contour angle", f"-{MAX_CONTOUR_ANGLE} to {MAX_CONTOUR_ANGLE} degrees", f"{degrees:g}")
    angle = round(degrees)
    return angle if angle >= 0 else MAX_CONTOUR_ANGLE - angle


def load_flame_embedding(folder: str | Path, contour_angle: float = 0.0) -> LandmarkEmbedding:
    """Landmarks of the FLAME topology from the published files.

    Args:
        folder: holds ``flame_static_embedding.pkl`` (51 points), ``flame_dynamic_embedding.npy`` (79 x 17) and
            ``template.obj``. The first two are pickles; only numpy arrays are taken from them and nothing in them is
            run.
        contour_angle: degrees, see :func:`contour_row`.

    Raises:
        InputError: a missing file (says where it comes from and where to put it) or one of other content.
    """
    folder = Path(folder)
    for name, source in _SOURCES.items():
        if not (folder / name).is_file():
            raise InputError(
                folder / name, f"this FLAME file to be there ({source}; see models/README.md)", "no such file"
            )
    template, faces = read_obj(folder / TEMPLATE_FILE)
    static = _table(folder / STATIC_FILE, load_pickle(folder / STATIC_FILE), (NUM_STATIC,), len(faces))
    contour = _table(folder / DYNAMIC_FILE, load_npy(folder / DYNAMIC_FILE), (CONTOUR_ROWS, NUM_CONTOUR), len(faces))
    embedding = LandmarkEmbedding(
        face_idx=np.concatenate([contour[0][0], static[0]]),
        bary=np.concatenate([contour[1][0], static[1]]),
        faces=faces,
        num_vertices=len(template),
        contour_face_idx=contour[0],
        contour_bary=contour[1],
    )
    return embedding.at_contour_angle(contour_angle)


def _table(path: Path, content: object, shape: tuple[int, ...], num_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Checked face indices ``shape`` and barycentric weights ``shape + (3,)`` of one embedding file."""
    values = content if isinstance(content, dict) else {}
    face_idx, bary = (numbers(values.get(name)) for name in ("lmk_face_idx", "lmk_b_coords"))
    if face_idx is None or bary is None:
        raise InputError(
            path, "a landmark embedding (lmk_face_idx, lmk_b_coords)", f"{type(content).__name__} without them"
        )
    return check_embedding(path, face_idx, bary, shape, num_faces)


def check_embedding(
    path: str | Path, face_idx: np.ndarray, bary: np.ndarray, shape: tuple[int, ...], num_faces: int
) -> tuple[np.ndarray, np.ndarray]:
    """Face indices ``shape`` and barycentric weights ``shape + (3,)`` of an embedding, as int64 and float64, once they
    are such.

    Raises:
        InputError: other shapes or types, a face that is not there, weights that lie outside their triangle or do not
            sum to 1.
    """
    if (
        face_idx.shape != shape
        or bary.shape != (*shape, 3)
        or face_idx.dtype.kind not in "iu"
        or bary.dtype.kind != "f"
    ):
        raise InputError(
            path,
            f"integers {shape} and floating weights {(*shape, 3)}",
            f"{face_idx.dtype} {face_idx.shape} and {bary.dtype} {bary.shape}",
        )
    if face_idx.min() < 0 or face_idx.max() >= num_faces:
        raise InputError(path, f"face numbers 0 to {num_faces - 1}", f"{face_idx.min()} to {face_idx.max()}")
    face_idx, bary = face_idx.astype(np.int64), bary.astype(np.float64)
    lowest, highest = bary.min(), bary.max()
    if not (-_ROUNDING <= lowest and highest <= 1 + _ROUNDING):  # NaN fails too
        raise InputError(path, "barycentric weights from 0 to 1 that sum to 1", f"{lowest:g} to {highest:g}")
    if np.abs(bary.sum(axis=-1) - 1).max() > _ROUNDING:
        raise InputError(path, "barycentric weights that sum to 1", "other sums")
    return face_idx, bary


def load_embedding(path: str | Path) -> LandmarkEmbedding:
    """Landmarks of one's own topology.

    Args:
        path: npz with ``face_idx`` (68,), ``bary`` (68, 3), ``faces`` (F, 3); optional ``num_vertices`` (else the
            largest index in ``faces`` plus 1), ``contour_face_idx`` (79, 17) and ``contour_bary`` (79, 17, 3). No
            pickles.

    Raises:
        InputError: no such file or other content.
    """
    path = Path(path)
    optional = ("num_vertices", "contour_face_idx", "contour_bary")
    arrays = load_npz(
        path, "a landmark embedding (.npz of arrays face_idx, bary, faces)", ("face_idx", "bary", "faces"), optional
    )
    faces = arrays["faces"]
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu" or not len(faces):
        raise InputError(path, "faces (F, 3) of vertex indices", f"{faces.dtype} {faces.shape}")
    if faces.min() < 0 or faces.max() >= MOST_VERTICES:
        raise InputError(
            path, f"faces of vertex indices from 0 to {MOST_VERTICES - 1}", f"{faces.min()} to {faces.max()}"
        )
    face_idx, bary = check_embedding(path, arrays["face_idx"], arrays["bary"], (NUM_LANDMARKS,), len(faces))
    count = arrays.get("num_vertices", faces.max() + 1)
    if count.shape not in ((), (1,)) or count.dtype.kind not in "iu" or not faces.max() < count.item() <= MOST_VERTICES:
        raise InputError(
            path,
            f"a whole num_vertices above {faces.max()}, at most {MOST_VERTICES}",
            f"{count.dtype} {str(count)[:60]}",
        )
    contour: tuple[np.ndarray, np.ndarray] | tuple[None, None] = (None, None)
    if ("contour_face_idx" in arrays) != ("contour_bary" in arrays):
        raise InputError(path, "both contour_face_idx and contour_bary, or none", "one of them")
    if "contour_face_idx" in arrays:
        contour = check_embedding(
            path, arrays["contour_face_idx"], arrays["contour_bary"], (CONTOUR_ROWS, NUM_CONTOUR), len(faces)
        )
    return LandmarkEmbedding(face_idx, bary, faces.astype(np.int32), int(count.item()), *contour)


def save_embedding(path: str | Path, embedding: LandmarkEmbedding) -> None:
    """Write an embedding as the npz that :func:`load_embedding` reads."""
    arrays: dict[str, Any] = {
        "face_idx": embedding.face_idx,
        "bary": embedding.bary,
        "faces": embedding.faces,
        "num_vertices": np.array(embedding.num_vertices),
    }
    if embedding.contour_face_idx is not None and embedding.contour_bary is not None:
        arrays |= {"contour_face_idx": embedding.contour_face_idx, "contour_bary": embedding.contour_bary}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def flame_embedding_files(embedding: LandmarkEmbedding) -> dict[str, bytes]:
    """The two landmark files of FLAME's format, by name, as :func:`load_flame_embedding` and other programs read them.

    Args:
        embedding: with a contour table.
    """
    static = (embedding.face_idx[NUM_CONTOUR:], embedding.bary[NUM_CONTOUR:])
    tables = [
        {"lmk_face_idx": np.asarray(face_idx).astype(np.uint32), "lmk_b_coords": bary}
        for face_idx, bary in (static, (embedding.contour_face_idx, embedding.contour_bary))
    ]
    holder = np.empty((), dtype=object)
    holder[()] = tables[1]
    stream = io.BytesIO()
    np.save(stream, holder, allow_pickle=True)
    return {STATIC_FILE: pickle.dumps(tables[0], protocol=2), DYNAMIC_FILE: stream.getvalue()}


def extract(embedding: LandmarkEmbedding, vertices: np.ndarray) -> np.ndarray:
    """Landmarks of meshes: point_l = sum_k bary[l, k] vertices[corners[l, k]].

    Args:
        embedding: of the meshes' topology.
        vertices: (..., V, 3), any unit.

    Returns:
        (..., 68, 3) of the floating type of ``vertices`` (float64 for integers), the sum taken in float64.

    Raises:
        InputError: another number of vertices than the embedding's topology has.

    Example:
        >>> extract(embedding, np.zeros((41, 5023, 3), np.float32)).shape
        (41, 68, 3)
    """
    vertices = np.asarray(vertices)
    if vertices.ndim < 2 or vertices.shape[-2:] != (embedding.num_vertices, 3):
        raise InputError(
            "mesh", f"({embedding.num_vertices}, 3) vertices, the topology of the landmarks", f"{vertices.shape[-2:]}"
        )
    return combine(embedding, vertices[..., embedding.corners, :])


def combine(embedding: LandmarkEmbedding, corners: np.ndarray) -> np.ndarray:
    """Landmarks (..., 68, 3) of the positions (..., 68, 3, 3) of their corners,
    ``vertices[..., embedding.corners, :]``.
    """
    kind = corners.dtype if corners.dtype.kind == "f" else np.float64
    # three products: einsum takes five times as long for so short a sum
    a, b, c = (corners[..., k, :] * embedding.bary[:, k : k + 1] for k in range(3))
    a += b
    a += c
    return a.astype(kind, copy=False)


NO_TRIANGLES = (
    "no triangles, so that nothing but the number of vertices tells whether this is the topology of the landmarks"
)


def check_mesh(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    embedding: LandmarkEmbedding,
    name: str = "the topology of the landmarks",
) -> np.ndarray:
    """Landmarks of a mesh that enters, after everything that can be checked of it.

    Args:
        path: named in errors.
        vertices, faces: (V, 3) and (F, 3), F = 0 for a mesh without triangles.
        name: of the embedding's topology, for errors.

    Returns:
        (68, 3) of the vertices' floating type, metres.

    Raises:
        InputError: another topology or order of the vertices, not in metres, or mirrored.
    """
    check_topology(path, len(vertices), faces, embedding.num_vertices, embedding.faces, name)
    return check_corners(path, vertices[embedding.corners], embedding)


def check_corners(path: str | Path, corners: np.ndarray, embedding: LandmarkEmbedding) -> np.ndarray:
    """Landmarks (68, 3) of the positions (68, 3, 3) of their corners, see :func:`check_mesh`.

    Raises:
        InputError: another order of the vertices, not in metres, or mirrored.
    """
    landmarks = combine(embedding, corners)
    sides = corners[:, 1:] - corners[:, :1]
    # a triangle of a face is small beside the face
    longer = float(np.sqrt(np.einsum("lsk,lsk->ls", sides, sides).max(axis=1)).mean())
    size = float(face_size(landmarks))
    if longer > size > 0:
        expected = "vertices in the order of the landmarks' topology (triangles small beside the face)"
        raise InputError(path, expected, f"triangles {longer / size:.1f} times as large as the face")
    check_face(path, landmarks)
    return landmarks


def mesh_remarks(name: str, faces: np.ndarray, landmarks: np.ndarray) -> list[Remark]:
    """What is odd about a mesh that :func:`check_mesh` let in."""
    return ([] if len(faces) else [Remark(NO_TRIANGLES, name)]) + face_remarks(name, landmarks)


def read_head(
    path: str | Path, embedding: LandmarkEmbedding, remarks: list[Remark] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read one neutral face of the embedding's topology; what is odd about it is logged, or added to ``remarks``.

    Returns:
        vertices (V, 3) and landmarks (68, 3), float32, metres.

    Raises:
        InputError: unreadable, or see :func:`check_mesh`.
    """
    vertices, faces = read_mesh(path)
    landmarks = check_mesh(path, vertices, faces, embedding)
    found = mesh_remarks(str(path), faces, landmarks)
    if remarks is None:
        report(path, found)
    else:
        remarks += found
    return vertices, landmarks


def extract_files(embedding: LandmarkEmbedding, paths: Sequence[str | Path]) -> np.ndarray:
    """Landmarks of mesh files (PLY or OBJ), one mesh in memory at a time; only the landmarks' corners are kept of each.

    Returns:
        (T, 68, 3) float32, metres as in the files.

    Raises:
        InputError: a file that cannot be read or has another number of vertices than the embedding's topology; names
            it.
    """
    return combine(embedding, corners_of_files(embedding, paths))


def corners_of_files(embedding: LandmarkEmbedding, paths: Sequence[str | Path]) -> np.ndarray:
    """Positions (T, 68, 3, 3) float32 of the landmarks' corners in mesh files, see :func:`extract_files`."""
    wanted = embedding.corners.ravel()
    gathered = np.empty((len(paths), len(wanted), 3), np.float32)
    for index, path in enumerate(paths):
        if str(path).lower().endswith(".ply"):
            vertices = read_ply_vertices(path, embedding.num_vertices, copy=False)
        else:
            vertices = next(iterate_vertices([path], embedding.num_vertices))
        # clip: no second buffer; indices are checked
        np.take(vertices, wanted, axis=0, out=gathered[index], mode="clip")
    return gathered.reshape(len(paths), NUM_LANDMARKS, 3, 3)
