"""Pictures made harder to read."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest
import torch

from face4d.commands.training_flags import add_setting_flags
from face4d.deca.config import EncoderConfig
from face4d.errors import InputError
from face4d.runtime.fields import configuration
from face4d.synthetic.augmentation import augment
from face4d.vrn.config import VolumeConfig


@pytest.fixture
def pictures():
    return torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_the_last_share_is_changed_and_stays_a_picture(pictures):
    before = pictures.clone()
    changed = augment(pictures, 0.75, torch.Generator().manual_seed(2))
    assert torch.equal(pictures, before) and changed.shape == pictures.shape
    assert torch.equal(changed[:10], pictures[:10])
    assert ((changed[10:] - pictures[10:]).abs().amax((1, 2, 3)) > 0.01).all()
    assert changed.min() >= 0 and changed.max() <= 1
    assert torch.equal(augment(pictures, 0.0, torch.Generator()), pictures)


def test_changes_follow_the_generator_and_differ_between_pictures(pictures):
    same = pictures[:1].expand(8, -1, -1, -1)
    first, second = (augment(same, 1.0, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert all((first[0] - other).abs().max() > 0.01 for other in first[1:])
    assert not torch.equal(first, augment(same, 1.0, torch.Generator().manual_seed(4)))


def test_every_kind_of_change_happens():
    """Of even red fields, some have a shadow (darker to one side), some an ellipse of another colour."""
    red = torch.zeros(200, 3, 24, 24)
    red[:, 0] = 0.6
    changed = augment(red, 1.0, torch.Generator().manual_seed(5))
    hue = changed / changed.sum(1, keepdim=True).clamp_min(1e-3)  # (B, 3, S, S) does not see shadows
    has_ellipse = hue.flatten(2).std(2).amax(1) > 0.02
    darkest, brightest = changed.sum(1).flatten(1).amin(1), changed.sum(1).flatten(1).amax(1)
    has_shadow = ~has_ellipse & (darkest < 0.8 * brightest)
    plain = ~has_ellipse & ~has_shadow
    assert 20 < has_ellipse.sum() < 100 and 20 < has_shadow.sum() < 100 and plain.sum() > 40


def test_a_share_outside_0_to_1_is_refused():
    for config in (EncoderConfig, VolumeConfig):
        with pytest.raises(InputError, match="at least 0 and at most 1"):
            config(augmented=1.5)


def test_the_former_name_of_the_share_is_read_from_files_and_flags():
    for config in (EncoderConfig, VolumeConfig):
        assert configuration(config)({"disguised": 0.25}, "config")["augmented"] == 0.25
        parser = ArgumentParser()
        add_setting_flags(parser.add_argument_group(), {"default": config()}, "augmented")
        assert parser.parse_args(["--disguised", "0.25"]).augmented == 0.25
        assert parser.parse_args(["--augmented", "0.75"]).augmented == 0.75
