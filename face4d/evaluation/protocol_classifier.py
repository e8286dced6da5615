"""The classifier of a protocol of the benchmark: trained on the training sequences of a fold, and kept."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from pathlib import Path

from face4d.datasets.layout import TEST_FOLDER, TRAIN_FOLDER, sequence_name
from face4d.datasets.source import DataSource
from face4d.errors import InputError
from face4d.evaluation.protocols import Fold, Protocol
from face4d.runtime.environment import REPOSITORY
from face4d.runtime.lock import sole_writer
from face4d.runtime.programs import Lease, Program, run_program
from face4d.runtime.run_folder import RunFolder

log = logging.getLogger(__name__)


def trained_classifier(
    protocol: Protocol, fold: Fold, source: DataSource, folder: Path, *, device: str = "auto"
) -> Path:
    """The checkpoint of the protocol's classifier of a fold; Classification/main.py trains it unless it is there.

    Its name follows from all that makes it: sequences, preset, seed. A training that was stopped goes on.

    Args:
        source: the neutral faces and the landmark embedding.
        folder: of such classifiers; their records lie in ``runs`` there.
        device: as on the command line.

    Raises:
        InputError: what that program says.
    """
    made_of = hashlib.sha256(f"{fold.split.digest()} {protocol.classifier} {protocol.seed}".encode()).hexdigest()[:12]
    run = f"{protocol.name}_{fold.name.replace(' ', '')}_{made_of}"
    checkpoint = folder / f"{run}.pt"
    if checkpoint.is_file() and RunFolder(folder / "runs" / run).metrics_path.is_file():
        return checkpoint
    log.info("training the classifier of %s, %s: %s", protocol.name, fold.name, checkpoint)
    lease = Lease(folder / f"{run}.running")
    with tempfile.TemporaryDirectory() as links, sole_writer(folder, f"training_{run}"):
        for half, sequences in ((TRAIN_FOLDER, fold.split.train), (TEST_FOLDER, fold.split.test)):
            (Path(links) / half).mkdir()
            for sequence in sequences:
                link = Path(links) / half / f"{sequence_name(sequence.label, sequence.subject)}.npy"
                link.symlink_to(sequence.path.resolve())
        words = ["--landmarks", links, "--labels", "all", "--run", run, "--models", folder, "--runs", folder / "runs"]
        words += ["--preset", protocol.classifier, "--seed", protocol.seed, "--device", device, "--resume", "--quiet"]
        if source.actors is not None:
            own = source.landmark_embedding
            words += ["--actors", source.actors]
            words += ["--landmark-embedding", own] if own is not None else ["--flame", source.flame]
        lease.take()
        try:
            script = REPOSITORY / "Classification" / "main.py"
            problem = run_program(Program((str(script), *map(str, words))), lease)
        finally:
            lease.release()
    if problem is not None:
        raise InputError(checkpoint, "a classifier from Classification/main.py", problem)
    return checkpoint
