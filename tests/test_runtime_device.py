"""Threads, and what a processor can do."""

import os

import numpy as np
import pytest
import torch
from scipy.linalg import cho_factor
from threadpoolctl import threadpool_info, threadpool_limits

from face4d.runtime import device
from face4d.runtime.device import limit_threads, multiplies_bf16


def blas_threads() -> set[int]:
    np.linalg.eigh(np.eye(3))
    cho_factor(np.eye(3))
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_threads_are_those_of_closed_forms_too(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "8")
    before = torch.get_num_threads()
    with threadpool_limits(2):
        try:
            limit_threads(1, small=False)
            assert blas_threads() == {1} and torch.get_num_threads() == 1
            assert os.environ["OPENBLAS_NUM_THREADS"] == "1"  # for libraries and processes to come
            limit_threads(None, small=False)
            assert blas_threads() == {1}
        finally:
            torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("flags", "can"),
    [
        ("fpu avx2 avx512f", False),
        ("fpu avx512_bf16", True),
        ("amx_bf16 amx_tile", True),
        ("Features : asimd bf16 i8mm", True),
        ("", True),
    ],
)
def test_processors_with_products_of_bf16(flags, can, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(device, "open", lambda path, **how: (tmp_path / "cpuinfo").open(**how), raising=False)
    assert multiplies_bf16(torch.device("cpu")) is can
