"""Whose face moves: which face model is fitted to a photo."""

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from face4d.commands.own_face import photo_fitter
from face4d.datasets.companions import Topology
from face4d.demo.head import demo_head


def test_the_head_of_the_generators_topology_is_fitted_whatever_the_order_of_its_triangles():
    head = demo_head(0)

    def fitter(faces):
        wanted = Topology(len(head.mean), faces)
        source = SimpleNamespace(topology=lambda: wanted, flame=None, companion=lambda name: Path("nowhere", name))
        return photo_fitter(Namespace(flame=None), source)

    for faces in (head.faces, np.roll(head.faces[::-1], 1, axis=1), None):
        assert fitter(faces) is not None
    assert fitter(head.faces[:, ::-1]) is None
