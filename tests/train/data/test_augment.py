"""Augmentation and batches: random, yet the same for the same seed, epoch and step."""

import dataclasses
import itertools

import numpy as np
import pytest
from mien_edge.contract import Preprocess
from mien_train.data import augment
from mien_train.data.augment import OFF, Augment
from mien_train.training import samples as materials
from mien_train.training.samples import TrainingSet

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 48, 48), dtype=np.uint8)
LABELS = np.arange(40, dtype=np.int8) % 7
TARGETS = materials.soft_targets(LABELS, 0.1)
MATERIAL = TrainingSet(IMAGES, TARGETS[:, None], IMAGES[:7], LABELS[:7, None], Preprocess(48, 0.0, "none"))


def warp(strengths, seed=0, squares=None):
    return augment.apply(IMAGES, augment.draw(len(IMAGES), strengths, np.random.default_rng(seed)), squares)


def batches(seed=1, first_epoch=0, strengths=None, count=8, material=MATERIAL):
    return list(itertools.islice(materials.batches(material, strengths or Augment(), 10, seed, first_epoch), count))


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
    assert (warp(OFF) == IMAGES).all()


CHANGING = (
    "flip", "rotate", "scale", "shift", "brightness", "contrast", "gamma", "blur", "shrink", "noise", "jpeg",
)  # fmt: skip


@pytest.mark.parametrize("name", CHANGING)
def test_each_strength_alone_changes_pictures(name):
    strength = {"rotate": 5.0, "shift": 5.0, "brightness": 5.0, "noise": 5.0}.get(name, 1.0)
    changed = warp(dataclasses.replace(OFF, **{name: strength}))
    assert (changed != IMAGES).any(axis=(1, 2)).mean() > 0.8


def test_a_flip_is_the_mirror_image():
    assert (warp(dataclasses.replace(OFF, flip=1.0)) == IMAGES[:, :, ::-1]).all()


def test_the_devices_crop_is_taken_from_the_picture():
    squares = np.tile([24.0, 20.0, 24.0], (len(IMAGES), 1))
    cropped = warp(dataclasses.replace(OFF, device=1.0), squares=squares)
    # Twice enlarged: the middle of the square lies in the middle, half a pixel away on both sides.
    wanted = (
        IMAGES[:, 19:21, 23:25].astype(int).mean(axis=(1, 2)),
        cropped[:, 23:25, 23:25].astype(int).mean(axis=(1, 2)),
    )
    assert np.abs(wanted[0] - wanted[1]).max() <= 1


def test_a_mirrored_crop_is_the_mirror_image_of_the_crop():
    squares = np.tile([20.0, 22.0, 40.0], (len(IMAGES), 1))
    plain = warp(dataclasses.replace(OFF, device=1.0), squares=squares)
    mirrored = warp(dataclasses.replace(OFF, device=1.0, flip=1.0), squares=squares)
    assert np.abs(plain.astype(int) - mirrored[:, :, ::-1].astype(int)).max() <= 1


def test_rows_taken_alone_look_as_they_do_among_all():
    rows = np.array([3, 17, 29])
    view = materials.View(MATERIAL, Augment(jpeg=0.5, gamma=0.3), (5, 2))
    assert (view(rows) == view(np.arange(len(IMAGES)))[rows]).all()


def test_epochs_go_round_the_views_that_the_teacher_judged():
    opinions = tuple(np.full((40, 1, 7), value, np.float16) for value in (0.25, 0.75))
    taught = dataclasses.replace(MATERIAL, opinions=opinions, share=1.0)
    shown = batches(material=taught, strengths=Augment(mixup=0), count=12)
    assert [float(targets[0, 0, 0]) for _, targets in shown[::4]] == [0.25, 0.75, 0.25]
    view = materials.judged(taught, Augment(mixup=0), 1, 1)(np.arange(40))
    # Erasing aside, the second epoch's pictures are the second view's.
    seen = np.rint(np.concatenate([images for images, _ in shown[4:8]])[..., 0] * 255).astype(np.uint8)
    assert sum(any((each == other).all() for other in view) for each in seen) > 20


def test_a_share_of_the_target_is_the_teachers():
    taught = dataclasses.replace(MATERIAL, opinions=(np.zeros((40, 1, 7), np.float16),), share=0.75)
    targets = batches(material=taught, strengths=OFF, count=1)[0][1]
    assert targets.sum(axis=2) == pytest.approx(0.25)


def test_erasing_touches_only_some_pictures_and_not_the_original():
    before = IMAGES.copy()
    erased = augment.erase(IMAGES, 0.5, np.random.default_rng(0))
    assert (before == IMAGES).all()
    assert 0.2 < (erased != IMAGES).any(axis=(1, 2)).mean() < 0.8


def test_mixing_keeps_targets_distributions_and_the_larger_share():
    images = IMAGES[..., None].astype(np.float32)
    mixed, targets = augment.mix(images, TARGETS[:, None], 0.4, np.random.default_rng(0))
    assert np.allclose(targets.sum(axis=2), 1, atol=1e-5)
    assert (targets[:, 0].argmax(axis=1) == TARGETS.argmax(axis=1)).mean() > 0.8
    assert mixed.shape == images.shape


def test_smoothed_targets_sum_to_one():
    assert np.allclose(TARGETS.sum(axis=1), 1)
    assert TARGETS[0, 0] == pytest.approx(0.9 + 0.1 / 7)
