"""Decoders in closed form as training runs, and what a run of any decoder records."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from face4d.dense.config import DenseConfig
from face4d.dense.decode import CHECKPOINT_FIELDS, CHECKPOINT_KIND, faces_digest, score, template_record
from face4d.dense.extrapolation import learn_motion
from face4d.dense.fit import fit, mean_face
from face4d.dense.frames import DenseFrames, Fold
from face4d.dense.hierarchy import Hierarchy, template_hierarchy
from face4d.runtime.atomic import remove_leftovers
from face4d.runtime.checkpoint import load_checkpoint, save_checkpoint
from face4d.runtime.device import describe, seed_everything
from face4d.runtime.run_folder import Run
from face4d.runtime.session import Task, require_same_run

log = logging.getLogger(__name__)

VALIDATION_FRAMES = 200  # of the test fold, evenly: the curve of a network in training; the table's scores take all


def task_of(fold: Fold, config: DenseConfig, source: dict[str, Any], hierarchy: Hierarchy | None = None) -> Task:
    """What a run of a decoder is, for its checkpoint.

    Args:
        source: where the data came from.
        hierarchy: of the template, for ``s2d``.
    """
    identity = {
        "topology": {"vertices": fold.train.num_vertices, "faces_digest": faces_digest(fold.train.embedding.faces)},
        "data_digest": fold.train.digest() + (fold.test.digest() if fold.test else ""),
    }
    attachments = template_record(fold.train)
    if config.decoder not in ("neutral", "rbf"):  # which do not learn from motion
        attachments["learnt"] = learn_motion(fold.train).as_record()
    if hierarchy is not None:
        attachments["hierarchy"] = {
            name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in hierarchy.arrays().items()
        }
    return Task(CHECKPOINT_KIND, config, identity, {"source": source, "sets": fold_sequences(fold)}, attachments)


def load_hierarchy(frames: DenseFrames, matrices: str | None, models: Path, source: Path) -> Hierarchy:
    """The coarser meshes of a template, for ``s2d``: of the authors' file, or of the mean of all faces.

    Args:
        matrices: the authors' ``downsampling_matrices.pkl``, if any.
        models: folder of checkpoints.
        source: of the frames, for errors.
    """
    cache = models / "template_cache"
    remove_leftovers(cache)
    template = mean_face(frames)[0]
    return template_hierarchy(template, frames.embedding.faces, matrices=matrices, cache=cache, source=source)


def fold_sequences(fold: Fold) -> dict[str, list[str]]:
    """Names of the training and test sequences, for the record."""

    def names(frames: DenseFrames | None) -> list[str]:
        return [f"{label}_{subject}" for label, subject in zip(frames.labels, frames.subjects)] if frames else []

    return {"train": names(fold.train), "test": names(fold.test)}


def fold_scores(decoder: nn.Module, fold: Fold, run: Run) -> dict[str, float]:
    """Scores of the fold's test frames (:func:`face4d.dense.decode.score`) by ``<set>/<key>``; none where nothing is
    tested.
    """
    scores = score(decoder, fold.test, device=run.device, quiet=run.quiet) if fold.test else {}
    return {**{f"test/{key}": value for key, value in scores.items()}, "train/frames": len(fold.train)}


def fit_closed_form(fold: Fold, config: DenseConfig, run: Run, task: Task) -> dict[str, Any]:
    """Fit a decoder on one fold in one pass over the frames and score it; write checkpoint, config.json and
    metrics.json.

    Args:
        run: with ``resume`` a finished run of the same configuration and data is kept.

    Returns:
        What metrics.json holds: of the test frames ``test/mm``, ``test/mm_std``, ``test/frames``, ``test/ms_per_frame``
            (none where there are no such frames), ``train/frames``, ``strength``, ``seconds``.

    Raises:
        InputError: a finished run of another configuration or other data.
    """
    if run.resume and run.checkpoint.is_file():
        saved = load_checkpoint(run.checkpoint, CHECKPOINT_KIND, CHECKPOINT_FIELDS)
        require_same_run(run.checkpoint, saved, task)
        log.info("%s: finished already", run.checkpoint)
        return saved["metrics"]
    seed_everything(config.seed)
    begun = time.monotonic()
    decoder, strength = fit(config, fold, quiet=run.quiet)
    seconds = time.monotonic() - begun
    decoder.to(run.device)
    metrics = {**fold_scores(decoder, fold, run), "strength": strength, "seconds": round(seconds, 2)}
    run.folder.write_config({**task.fixed(), **task.origin, "device": describe(run.device)})
    run.folder.write_metrics(metrics)
    content = {**task.fixed(), **task.origin, **task.attachments, "model": decoder.state_dict(), "metrics": metrics}
    save_checkpoint(run.checkpoint, CHECKPOINT_KIND, content)  # last: a run with a checkpoint is finished
    return metrics


def validation_frames(frames: DenseFrames) -> DenseFrames:
    """Some frames, evenly."""
    return frames.select(np.arange(0, len(frames), max(1, math.ceil(len(frames) / VALIDATION_FRAMES))))
