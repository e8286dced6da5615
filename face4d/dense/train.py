"""Training of dense decoders: closed forms in one pass over the frames, the Sparse2Dense network by epochs."""

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
from face4d.dense.decoders import SpiralDecoder
from face4d.dense.extrapolation import learn_motion
from face4d.dense.fit import fit, mean_face
from face4d.dense.frames import DenseFrames, Fold
from face4d.dense.hierarchy import Hierarchy
from face4d.dense.s2d import S2DDecoder, landmark_weights, read_weights, s2d_loss
from face4d.runtime.checkpoint import load_checkpoint, save_checkpoint
from face4d.runtime.device import describe, seed_everything
from face4d.runtime.training import Run, require_same_run, run_epochs

log = logging.getLogger(__name__)

VALIDATION_FRAMES = 200  # of the test fold, evenly: the curve of a network in training; the table's scores take all


def train(
    fold: Fold,
    config: DenseConfig,
    run: Run,
    *,
    hierarchy: Hierarchy | None = None,
    vertex_weights: Path | None = None,
    source: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train one decoder on one fold and score it on the fold's test frames; write checkpoint, config.json and
    metrics.json.

    Args:
        run: with ``resume`` a finished run of the same configuration and data is kept, one that was stopped is
            continued.
        hierarchy: of the template, for ``s2d``.
        vertex_weights: file with the vertices' weights in the loss of ``s2d``; None = by distance to the landmarks.
        source: where the data came from, kept in config.json and the checkpoint.

    Returns:
        What metrics.json holds: of the test frames ``mm``, ``mm_std``, ``frames``, ``ms_per_frame`` (empty where there
            are none),
        ``strength``, ``seconds``.

    Raises:
        InputError: see :func:`face4d.runtime.training.run_epochs`.
    """
    identity = {
        "topology": {"vertices": fold.train.num_vertices, "faces_digest": faces_digest(fold.train.embedding.faces)},
        "data_digest": fold.train.digest() + (fold.test.digest() if fold.test else ""),
    }
    record, attachments = {"source": source or {}, "sets": fold_sequences(fold)}, template_record(fold.train)
    if config.decoder not in ("neutral", "rbf"):  # which do not learn from motion
        attachments["learnt"] = learn_motion(fold.train).as_record()
    if config.decoder != "s2d":
        return _closed_form(fold, config, run, identity, record, attachments)
    if hierarchy is None:
        raise ValueError("s2d needs a hierarchy")
    attachments["hierarchy"] = {
        name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in hierarchy.arrays().items()
    }
    template = mean_face(fold.train)[0]
    weights = (
        read_weights(vertex_weights, len(template))
        if vertex_weights
        else landmark_weights(template, fold.train.embedding)
    )
    return _spiral(fold, config, run, identity, record, attachments, hierarchy, weights)


def fold_sequences(fold: Fold) -> dict[str, list[str]]:
    """Names of the training and test sequences, for the record."""

    def names(frames: DenseFrames | None) -> list[str]:
        return [f"{label}_{subject}" for label, subject in zip(frames.labels, frames.subjects)] if frames else []

    return {"train": names(fold.train), "test": names(fold.test)}


def _closed_form(
    fold: Fold,
    config: DenseConfig,
    run: Run,
    identity: dict[str, Any],
    record: dict[str, Any],
    attachments: dict[str, Any],
) -> dict[str, Any]:
    identity = {"config": config.as_dict(), **identity}
    if run.resume and run.checkpoint.is_file():
        saved = load_checkpoint(run.checkpoint, CHECKPOINT_KIND, CHECKPOINT_FIELDS)
        require_same_run(run.checkpoint, saved, identity)
        log.info("%s: finished already", run.checkpoint)
        return saved["metrics"]
    seed_everything(config.seed)
    begun = time.monotonic()
    decoder, strength = fit(config, fold, quiet=run.quiet)
    seconds = time.monotonic() - begun
    decoder.to(run.device)
    metrics = score(decoder, fold.test, device=run.device, quiet=run.quiet) if fold.test else {}
    metrics |= {"strength": strength, "seconds": round(seconds, 2), "train_frames": len(fold.train)}
    run.folder.write_config({**identity, **record, "device": describe(run.device)})
    run.folder.write_metrics(metrics)
    content = {**identity, **record, **attachments, "model": decoder.state_dict(), "metrics": metrics}
    save_checkpoint(run.checkpoint, CHECKPOINT_KIND, content)  # last: a run with a checkpoint is finished
    return metrics


def _spiral(
    fold: Fold,
    config: DenseConfig,
    run: Run,
    identity: dict[str, Any],
    record: dict[str, Any],
    attachments: dict[str, Any],
    hierarchy: Hierarchy,
    vertex_weights: np.ndarray,
) -> dict[str, Any]:
    """Adam, learning rate times ``lr_decay`` after every epoch, batches of shuffled frames read from disk [S]."""
    device = run.device
    generator = seed_everything(config.seed)
    network = S2DDecoder(hierarchy).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    weights = torch.from_numpy(vertex_weights).to(device)
    train_set, shown = fold.train, _some(fold.test, VALIDATION_FRAMES) if fold.test else None

    def train_epoch(epoch: int) -> dict[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = config.lr * config.lr_decay ** (epoch - 1)
        loss_sum = torch.zeros((), device=device)
        batches = torch.randperm(len(train_set), generator=generator).split(config.batch_size)
        for chosen in batches:
            rows = chosen.numpy()
            landmarks = torch.from_numpy(train_set.landmarks[rows]).to(device)  # (B, 68, 3)
            target = torch.from_numpy(train_set.vertices(rows)).to(device)  # (B, V, 3)
            loss = s2d_loss(network(landmarks), target, weights)
            optimizer.zero_grad()
            loss.backward()
            if config.grad_clip:
                nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
            optimizer.step()
            loss_sum += loss.detach()
        return {"loss/train": loss_sum.item() / len(batches)}

    def validate() -> tuple[dict[str, float], tuple[float, ...]]:
        if shown is None:
            return {}, (0.0,)
        scores = score(SpiralDecoder(network), shown, device=device)
        network.train()
        return {"test/mm": scores["mm"]}, (scores["mm"],)

    def final_scores(kept: nn.Module) -> dict[str, Any]:
        scores = score(SpiralDecoder(kept), fold.test, device=device, quiet=run.quiet) if fold.test else {}
        return {**scores, "train_frames": len(train_set)}

    return run_epochs(
        network,
        optimizer,
        generator,
        config,
        run,
        kind=CHECKPOINT_KIND,
        identity=identity,
        record=record,
        attachments=attachments,
        train_epoch=train_epoch,
        validate=validate,
        final_scores=final_scores,
    )


def _some(frames: DenseFrames, wanted: int) -> DenseFrames:
    return frames.select(np.arange(0, len(frames), max(1, math.ceil(len(frames) / wanted))))
