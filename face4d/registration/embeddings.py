"""Which embedding of the 468 points belongs to a head: the file beside its model, the package's, or the demo head's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.triangles import checksum
from face4d.synthetic.point_embedding import PACKAGED, PointEmbedding, load_point_embedding

POINT_FILE = "point_embedding.npz"  # beside a model
_DEMO_LEVELS = (0, 1, 2)


def demo_point_embedding(level: int = 0) -> PointEmbedding:
    """Of the demo head at a level of detail."""
    from face4d.demo.head import demo_head
    from face4d.demo.points import point_places

    head = demo_head(level)
    places = point_places(head)
    return PointEmbedding(*places, num_vertices=len(head.mean), checksum=checksum(head.faces))


def point_embedding_of(folder: str | Path, num_vertices: int, faces: np.ndarray) -> PointEmbedding:
    """The embedding of a topology.

    Args:
        folder: of the model (or a file in it), where its own embedding may lie.
        num_vertices: V.
        faces: (F, 3).

    Raises:
        InputError: there is none (says how to measure it), or the one in the folder is of another topology.
    """
    folder = Path(folder)
    own = (folder if folder.is_dir() else folder.parent) / POINT_FILE
    if own.is_file():
        embedding = load_point_embedding(own)
        if not embedding.fits(num_vertices, faces):
            raise InputError(
                own,
                f"the 468 points on the model beside it ({num_vertices} vertices, its triangles)",
                f"those of another topology of {embedding.num_vertices} vertices",
            )
        return embedding
    for name in PACKAGED:
        embedding = load_point_embedding(name)
        if embedding.fits(num_vertices, faces):
            return embedding
    from face4d.demo.head import demo_head

    for level in _DEMO_LEVELS:
        head = demo_head(level)
        if len(head.mean) == num_vertices and np.array_equal(head.faces, faces):
            return demo_point_embedding(level)
        if len(head.mean) >= num_vertices:  # finer levels take longer to make
            break
    raise InputError(
        own,
        "where the 468 points lie on this topology (measured by: python -m face4d point-embedding HEADS "
        f"--landmark-embedding FILE --output {own})",
        "none",
    )
