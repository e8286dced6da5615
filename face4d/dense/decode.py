"""Use of a trained dense decoder: loading it, moving vertices by landmarks, its errors on unseen frames."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from face4d.constants import MM_PER_METRE, NUM_LANDMARKS
from face4d.dense.config import DenseConfig
from face4d.dense.decoders import NeutralDecoder, RbfDecoder, SpiralDecoder
from face4d.dense.extrapolation import LEARNT_FIELDS, LearntMotion
from face4d.dense.fit import linear_decoder, mean_face
from face4d.dense.frames import DenseFrames
from face4d.dense.hierarchy import Hierarchy, read_downsampling_matrices
from face4d.dense.s2d import FILTERS, S2DDecoder, load_published
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, check_embedding, extract
from face4d.mesh.triangles import check_topology
from face4d.runtime.checkpoint import array, load_checkpoint, load_weights, tensor, weights, without_weights
from face4d.runtime.fields import METRICS, Check, FieldError, configuration, integer, mapping, optional, record, text


@dataclass
class DistanceSum:
    """Running mean and standard deviation of Euclidean distances in millimetres, of any number of points."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """Add the distances of points (..., 3) in metres."""
        squared = np.square(found - wanted).sum(axis=-1) * np.float32(MM_PER_METRE**2)
        self.count += squared.size
        self.total += float(np.sqrt(squared).sum(dtype=np.float64))
        self.squares += float(squared.sum(dtype=np.float64))

    @property
    def mean(self) -> float:
        """Millimetres."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Population standard deviation over all single distances, millimetres."""
        return max(self.squares / self.count - self.mean**2, 0.0) ** 0.5


@torch.no_grad()
def score(
    decoder: nn.Module, frames: DenseFrames, *, device: torch.device | str = "cpu", quiet: bool = True
) -> dict[str, float]:
    """Per-vertex Euclidean error over all vertices of all frames [S].

    With noise on the vertices, ``mm`` is the error against the surface without noise, which is what the decoder should
    find; ``mm_noisy`` is the one against the noisy vertices.

    Returns:
        ``mm``, ``mm_std``, ``frames``, ``ms_per_frame`` (decoding alone), and ``mm_noisy`` where there is noise on the
        vertices.
    """
    clean, noisy, seconds = DistanceSum(), DistanceSum(), 0.0
    neutrals, landmarks = (
        torch.from_numpy(frames.neutrals).to(device),
        torch.from_numpy(frames.neutral_landmarks()).to(device),
    )
    decoder.eval()
    for rows, wanted in frames.without_vertex_noise().chunks("scoring", quiet):
        noise = frames.vertices(rows) if frames.noise_mm else None
        for sequence in np.unique(frames.sequence[rows]).tolist():
            own = frames.sequence[rows] == sequence
            displacement = torch.from_numpy(frames.landmarks[rows[own]]).to(device)
            begun = time.perf_counter()
            found = decoder(displacement, neutrals[sequence], landmarks[sequence]).cpu().numpy()
            seconds += time.perf_counter() - begun
            clean.add(found, wanted[own])
            if noise is not None:
                noisy.add(found, noise[own])
    scores = {
        "mm": clean.mean,
        "mm_std": clean.std,
        "frames": len(frames),
        "ms_per_frame": 1000 * seconds / len(frames),
    }
    return scores | ({"mm_noisy": noisy.mean} if frames.noise_mm else {})


CHECKPOINT_KIND = "dense decoder"
_HIERARCHY_ARRAYS = {
    "vertices": array(None, 3, kind=torch.float64),
    "faces": array(None, 3, kind=torch.int32, low=0),
    "spirals": array(None, None, kind=torch.int64, low=-1),
    "kept": array(None, kind=torch.int64, low=0),
    "corners": array(None, 3, kind=torch.int64, low=0),
    "weights": array(None, 3, kind=torch.float64),
}


def hierarchy_arrays(value: Any, place: str) -> dict[str, Tensor]:
    """A field of the arrays of a :class:`~face4d.dense.hierarchy.Hierarchy`, ``level0_vertices`` and so on."""
    found = {}
    for name, entry in mapping(tensor, 1000)(value, place).items():
        if name.partition("_")[2] not in _HIERARCHY_ARRAYS:
            raise FieldError(f"{place}.{name}", "an array of a mesh hierarchy", "another")
        found[name] = _HIERARCHY_ARRAYS[name.partition("_")[2]](entry, f"{place}.{name}")
    return found


CHECKPOINT_FIELDS: dict[str, Check] = {
    "config": configuration(DenseConfig),
    "topology": record({"vertices": integer(4, 10**7), "faces_digest": text}),
    "template": array(None, 3),
    "embedding": record(
        {
            "face_idx": array(NUM_LANDMARKS, kind=torch.int64, low=0),
            "bary": array(NUM_LANDMARKS, 3, kind=torch.float64),
            "faces": array(None, 3, kind=torch.int32, low=0),
        }
    ),
    "hierarchy": optional(hierarchy_arrays),
    "learnt": optional(record(LEARNT_FIELDS)),
    "source": record({}),
    "model": weights,
    "metrics": METRICS,
}
FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class DenseDecoder:
    """A trained decoder and what was saved with it.

    Attributes:
        path: its checkpoint.
        kind: name of the decoder, e.g. ``regional``.
        module: in evaluation mode.
        embedding: where the 68 landmarks lie on its topology.
        template: (V, 3) float32, mean neutral face of the training subjects, metres.
        source: where its data came from, as typed when it was trained.
        metrics: scores of the training run.
        learnt: the landmark motion it was trained on; None where the checkpoint does not tell, and of decoders that
            learn from none.
    """

    path: Path
    kind: str
    module: nn.Module
    embedding: LandmarkEmbedding
    template: np.ndarray
    source: dict[str, Any]
    metrics: dict[str, Any]
    learnt: LearntMotion | None = None

    @torch.no_grad()
    def decode(self, displacements: np.ndarray, neutral: np.ndarray) -> np.ndarray:
        """Vertices of a face whose landmarks move.

        Args:
            displacements: (T, 68, 3) of the landmarks from the neutral ones, metres; T may be 0.
            neutral: (V, 3) neutral face, metres.

        Returns:
            (T, V, 3) float32, metres.

        Raises:
            InputError: a neutral face of another topology, or displacements of another shape or not finite.
        """
        displacements, neutral = np.asarray(displacements, np.float32), np.asarray(neutral, np.float32)
        if neutral.shape != self.template.shape:
            raise InputError(
                "neutral face", f"{len(self.template)} vertices as in {self.path}", f"shape {neutral.shape}"
            )
        if (
            displacements.ndim != 3
            or displacements.shape[1:] != (NUM_LANDMARKS, 3)
            or not np.isfinite(displacements).all()
        ):
            raise InputError(
                "landmark displacements", f"(frames, {NUM_LANDMARKS}, 3) finite numbers", f"shape {displacements.shape}"
            )
        device = next((tensor.device for tensor in self.module.state_dict().values()), torch.device("cpu"))
        vertices = torch.from_numpy(neutral).to(device)
        landmarks = torch.from_numpy(extract(self.embedding, neutral)).to(device)
        result = np.empty((len(displacements), *neutral.shape), np.float32)
        for start in range(0, len(displacements), FRAMES_AT_ONCE):
            part = slice(start, start + FRAMES_AT_ONCE)
            moved = self.module(torch.from_numpy(displacements[part]).to(device), vertices, landmarks)
            result[part] = (moved + vertices).cpu().numpy()
        return result


def load_decoder(path: str | Path, *, device: torch.device | str = "cpu") -> DenseDecoder:
    """Load a decoder of ``Sparse2Dense/main.py``.

    Raises:
        InputError: it is missing, damaged, of another program or kind, or does not fit its own configuration.
    """
    content = load_checkpoint(path, CHECKPOINT_KIND, CHECKPOINT_FIELDS)
    config, arrays = (
        DenseConfig(**content["config"]),
        {name: value.numpy() for name, value in content["embedding"].items()},
    )
    template, faces = content["template"].numpy(), arrays["faces"]
    count = content["topology"]["vertices"]
    if len(template) != count or faces.max() >= count:
        raise InputError(
            path, f"triangles and a template of {count} vertices", f"{len(template)}, and vertex {faces.max()}"
        )
    if faces_digest(faces) != content["topology"]["faces_digest"]:
        raise InputError(path, "the triangles it was trained with", "others")
    face_idx, bary = check_embedding(path, arrays["face_idx"], arrays["bary"], (NUM_LANDMARKS,), len(faces))
    module, part = _build(path, config, content)
    load_weights(part, content["model"], path)
    module.to(device).eval()
    embedding = LandmarkEmbedding(face_idx, bary, faces, len(template))
    learnt = LearntMotion.from_record(content["learnt"], path) if content.get("learnt") else None
    return DenseDecoder(
        Path(path), config.decoder, module, embedding, template, content["source"], content["metrics"], learnt
    )


def load_published_decoder(
    path: str | Path, downsampling: str | Path, embedding: LandmarkEmbedding, *, device: torch.device | str = "cpu"
) -> DenseDecoder:
    """The decoder of the authors' ``checkpoint.pth.tar``.

    Args:
        downsampling: their ``downsampling_matrices.pkl``.
        embedding: landmarks on the same topology.

    Raises:
        InputError: either file is missing, damaged or of another topology.
    """
    hierarchy = read_downsampling_matrices(downsampling)
    template = hierarchy.levels[0].vertices.astype(np.float32)
    check_topology(
        downsampling,
        len(template),
        hierarchy.levels[0].faces,
        embedding.num_vertices,
        embedding.faces,
        "the topology of the landmarks",
    )
    module = SpiralDecoder(load_published(path, hierarchy)).to(device).eval()
    return DenseDecoder(Path(path), "s2d", module, embedding, template, {}, {})


def _build(path: str | Path, config: DenseConfig, content: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """The decoder of a checkpoint, and the part of it that the checkpoint holds the weights of; these are still to be
    filled in.
    """
    if config.decoder == "s2d":
        hierarchy = Hierarchy.from_arrays(
            {name: value.numpy() for name, value in (content.get("hierarchy") or {}).items()}, path
        )
        if hierarchy.sizes[0] != len(content["template"]) or len(hierarchy.sizes) != len(FILTERS):
            expected = f"a hierarchy of {len(FILTERS)} levels, the first with {len(content['template'])} vertices"
            raise InputError(path, expected, f"{len(hierarchy.sizes)}, the first with {hierarchy.sizes[0]}")
        with without_weights():
            network = S2DDecoder(hierarchy)
        return SpiralDecoder(network), network
    if config.decoder == "neutral":
        module: nn.Module = NeutralDecoder()
    elif config.decoder == "rbf":
        module = RbfDecoder()
    else:
        # no larger than the template, which is in the file, makes it
        module = linear_decoder(config, len(content["template"]))
    return module, module


def faces_digest(faces: np.ndarray) -> str:
    """SHA-256 of a triangle list: which topology it is."""
    return hashlib.sha256(np.ascontiguousarray(faces, "<i4").tobytes()).hexdigest()


def template_record(frames: DenseFrames) -> dict[str, Any]:
    """What a checkpoint holds of the topology: mean face and landmark embedding, as tensors."""
    embedding = frames.embedding
    arrays = {"face_idx": embedding.face_idx, "bary": embedding.bary, "faces": embedding.faces}
    return {
        "template": torch.from_numpy(mean_face(frames)[0]),
        "embedding": {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()},
    }
