"""A working folder after every step, small: two labels, three people, one of them to test."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from face4d.datasets.landmark_set import load_split
from face4d.demo.write import write_demo
from face4d.generation.config import PRESETS
from face4d.landmarks import extract, load_flame_embedding
from face4d.mesh.sequence import frame_paths
from face4d.runtime.run_folder import Run
from tests.conftest import load_script, read_sequence

LABELS = ("mouth-open", "high-smile")
FRAMES = 21


def finished_demo(folder: Path) -> Path:
    """Fill a folder with data, a generator that follows controls (``steerable``), a decoder, answers, scores."""
    names = [label.replace("-", "_") for label in LABELS]
    write_demo(folder / "demo", subjects=3, coma_labels=names, florence_labels=[], florence_subjects=[])
    demo = folder / "demo"
    embedding = load_flame_embedding(demo / "models" / "flame")
    for subject in ("Demo01", "Demo02", "Demo03"):
        for label in LABELS:
            source = demo / "Dataset_FLAME_Aligned_COMA" / subject / label.replace("-", "_")
            paths = frame_paths(source)
            chosen = [paths[round(place)] for place in np.linspace(0, len(paths) - 1, FRAMES)]
            place = demo / "sampling" / subject / label.replace("-", "_")
            place.mkdir(parents=True)
            for number, path in enumerate(chosen, 1):
                shutil.copy(path, place / f"{label}.{number:06d}.ply")
            half = "dataset_testing" if subject == "Demo03" else "dataset_training"
            (demo / "Landmark_dataset_flame_aligned_coma" / half).mkdir(parents=True, exist_ok=True)
            landmarks = extract(embedding, read_sequence(frame_paths(place))[0])
            np.save(demo / "Landmark_dataset_flame_aligned_coma" / half / f"{label}_{subject}.npy", landmarks)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _train(folder)
    return folder


def _train(folder: Path) -> None:
    """Train generator and decoder; a generated set: the real one at 0.8 of its size."""
    demo = folder / "demo"
    landmarks = demo / "Landmark_dataset_flame_aligned_coma"
    source = {"dataset": "demo", "landmarks": str(landmarks), "test_subjects": ["Demo03"]}
    split = replace(load_split(landmarks), source=source)
    config = PRESETS["default"].with_settings({"hidden_size": 8, "epochs": 2, "components": 6, "controls": True})
    load_script("main.py").train(split, config, Run("steerable", demo / "models", demo / "runs", quiet=True))
    words = ["--dataset", "demo", "--meshes", "demo/sampling", "--decoder", "regional", "--fold", "none", "--quiet"]
    load_script("Sparse2Dense/main.py").main(words)
    for one in split.test:
        place = demo / "Generated_Animation" / "steerable" / f"{one.subject}_{one.label}"
        place.mkdir(parents=True)
        np.save(place / f"{one.label}_{one.subject}.npy", (one.neutral + 0.8 * one.displacement).astype(np.float32))
    (demo / "results" / "steerable").mkdir(parents=True)
    record = {"generated": "demo/Generated_Animation/steerable", "landmarks": str(landmarks), "labels": list(LABELS)}
    record["scores"] = [{"method": "generated", "accuracy": 1.0, "mm_mean": 0.5}]
    (demo / "results" / "steerable" / "evaluate.json").write_text(json.dumps(record))
