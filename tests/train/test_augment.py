"""Augmentation and targets: random, yet the same for the same seed, epoch and step."""

import dataclasses
import itertools

import numpy as np
import pytest
from mien_edge.contract import Preprocess
from mien_train import augment
from mien_train.augment import OFF, Augment

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 48, 48), dtype=np.uint8)
TARGETS = augment.soft_targets(np.arange(40, dtype=np.int8) % 7, 0.1)
PLAIN = Preprocess(48, 0.0, "none")


def batches(seed=1, first_epoch=0, strengths=None, count=8):
    made = augment.batches(IMAGES, TARGETS, PLAIN, strengths or Augment(), 10, seed, first_epoch)
    return list(itertools.islice(made, count))


def test_the_same_seed_gives_the_same_batches_and_another_others():
    first, again, other = batches(), batches(), batches(seed=2)
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(first, again, strict=True))
    assert (first[0][0] != other[0][0]).any()


def test_starting_at_an_epoch_gives_what_would_have_come():
    whole, resumed = batches(count=8), batches(first_epoch=1, count=4)
    assert all((a[0] == b[0]).all() for a, b in zip(whole[4:], resumed, strict=True))


def test_an_epoch_shows_every_row_once():
    shown = np.concatenate([images for images, _ in batches(strengths=OFF, count=4)])[..., 0] * 255
    assert sorted(shown.sum(axis=(1, 2)).round().tolist()) == sorted(IMAGES.sum(axis=(1, 2)).tolist())


def test_all_strengths_off_changes_nothing():
    assert (augment.warp(IMAGES, OFF, np.random.default_rng(0)) == IMAGES).all()


CHANGING = ("flip", "rotate", "scale", "shift", "brightness", "contrast", "blur", "noise")


@pytest.mark.parametrize("name", CHANGING)
def test_each_strength_alone_changes_pictures(name):
    strength = {"flip": 1.0, "blur": 1.0, "scale": 0.2, "contrast": 0.3}.get(name, 5.0)
    changed = augment.warp(IMAGES, dataclasses.replace(OFF, **{name: strength}), np.random.default_rng(0))
    assert (changed != IMAGES).any(axis=(1, 2)).mean() > 0.8


def test_a_flip_is_the_mirror_image():
    flipped = augment.warp(IMAGES, dataclasses.replace(OFF, flip=1.0), np.random.default_rng(0))
    assert (flipped == IMAGES[:, :, ::-1]).all()


def test_erasing_touches_only_some_pictures_and_not_the_original():
    before = IMAGES.copy()
    erased = augment.erase(IMAGES, 0.5, np.random.default_rng(0))
    assert (before == IMAGES).all()
    assert 0.2 < (erased != IMAGES).any(axis=(1, 2)).mean() < 0.8


def test_mixing_keeps_targets_distributions_and_the_larger_share():
    images = IMAGES[..., None].astype(np.float32)
    mixed, targets = augment.mix(images, TARGETS, 0.4, np.random.default_rng(0))
    assert np.allclose(targets.sum(axis=1), 1, atol=1e-5)
    assert (targets.argmax(axis=1) == TARGETS.argmax(axis=1)).mean() > 0.8
    assert mixed.shape == images.shape


def test_smoothed_targets_sum_to_one():
    assert np.allclose(TARGETS.sum(axis=1), 1)
    assert TARGETS[0, 0] == pytest.approx(0.9 + 0.1 / 7)
