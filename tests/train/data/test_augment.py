"""Augmentation and batches: random, yet the same for the same seed, epoch and step."""

import contextlib
import dataclasses
import itertools

import numpy as np
import pytest
from mien_edge.contract import Preprocess
from mien_train.data import augment
from mien_train.data.heads import smoothed_targets
from mien_train.data.strengths import OFF, Augment
from mien_train.training import samples
from mien_train.training.samples import TrainingSet

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 48, 48), dtype=np.uint8)
LABELS = np.arange(40, dtype=np.int8) % 7
TARGETS = smoothed_targets(LABELS, 7, 0.1)
TRAINING = TrainingSet(
    IMAGES, TARGETS, (7,), IMAGES[:7], LABELS[:7, None], Preprocess(48, 0.0, "none")
)


def warp(strengths, seed=0, squares=None):
    return augment.apply(
        IMAGES, augment.draw(len(IMAGES), strengths, np.random.default_rng(seed)), squares
    )


def batches(seed=1, first_epoch=0, strengths=None, count=8, training=TRAINING):
    made = samples.Batches(training, strengths or Augment(), 10, seed, first_epoch)
    with contextlib.closing(made):
        epochs = itertools.count(first_epoch)
        endless = itertools.chain.from_iterable(map(made.epoch, epochs))
        return list(itertools.islice(endless, count))


def test_the_same_seed_gives_the_same_batches_and_another_others():
    first, again, other = batches(), batches(), batches(seed=2)
    assert all(
        (own == same).all()
        for batch, equal in zip(first, again, strict=True)
        for own, same in zip(batch, equal, strict=True)
    )
    assert (first[0][0] != other[0][0]).any()


def test_starting_at_an_epoch_gives_what_would_have_come():
    uninterrupted = batches(count=8)
    resumed = batches(first_epoch=1, count=4)
    assert all((a[0] == b[0]).all() for a, b in zip(uninterrupted[4:], resumed, strict=True))


def test_an_epoch_shows_every_row_once():
    shown = np.concatenate([batch.crops for batch in batches(strengths=OFF, count=4)])
    assert sorted(shown.sum(axis=(1, 2)).tolist()) == sorted(IMAGES.sum(axis=(1, 2)).tolist())


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
    expected = IMAGES[:, 19:21, 23:25].astype(int).mean(axis=(1, 2))
    middle = cropped[:, 23:25, 23:25].astype(int).mean(axis=(1, 2))
    assert np.abs(expected - middle).max() <= 1


def test_a_mirrored_crop_is_the_mirror_image_of_the_crop():
    squares = np.tile([20.0, 22.0, 40.0], (len(IMAGES), 1))
    plain = warp(dataclasses.replace(OFF, device=1.0), squares=squares)
    mirrored = warp(dataclasses.replace(OFF, device=1.0, flip=1.0), squares=squares)
    assert np.abs(plain.astype(int) - mirrored[:, :, ::-1].astype(int)).max() <= 1


def test_rows_taken_alone_look_as_they_do_among_all():
    rows = np.array([3, 17, 29])
    view = samples.View(TRAINING, Augment(jpeg=0.5, gamma=0.3), (5, 2))
    assert (view(rows) == view(np.arange(len(IMAGES)))[rows]).all()


def distilled(weight, *values):
    """The training set with a teacher who gives every label the same probability, one value a view."""
    probabilities = tuple(np.full((40, 7), value, np.float16) for value in values)
    return dataclasses.replace(
        TRAINING, teacher_probabilities=probabilities, distillation_weight=weight
    )


def test_epochs_cycle_the_views_that_the_teacher_saw():
    training = distilled(1.0, 0.25, 0.75)
    shown = batches(training=training, strengths=Augment(mixup=0), count=12)
    assert [float(batch.targets[0, 0]) for batch in shown[::4]] == [0.25, 0.75, 0.25]
    view = samples.teacher_view(training, Augment(mixup=0), 1, 1)(np.arange(40))
    # Erasing aside, the second epoch's pictures are the second view's.
    pictures = np.concatenate([batch.crops for batch in shown[4:8]])
    assert sum(any((picture == other).all() for other in view) for picture in pictures) > 20


def test_the_distillation_weight_of_a_target_is_the_teachers():
    targets = batches(training=distilled(0.75, 0.0), strengths=OFF, count=1)[0].targets
    assert targets.sum(axis=1) == pytest.approx(0.25)


def test_erasing_touches_only_some_pictures_and_not_the_original():
    before = IMAGES.copy()
    erased = augment.erase(IMAGES, 0.5, np.random.default_rng(0))
    assert (before == IMAGES).all()
    assert 0.2 < (erased != IMAGES).any(axis=(1, 2)).mean() < 0.8


def test_a_row_is_blended_with_another_and_keeps_the_larger_share():
    partners, shares = augment.draw_blend(40, 0.4, np.random.default_rng(0))
    assert sorted(partners) == list(range(40))
    assert 0.5 <= shares.min() < shares.max() <= 1
    alone, whole = augment.draw_blend(40, 0.0, np.random.default_rng(0))
    assert (alone == np.arange(40)).all()
    assert (whole == 1).all()


def test_smoothed_targets_sum_to_one():
    assert np.allclose(TARGETS.sum(axis=1), 1)
    assert TARGETS[0, 0] == pytest.approx(0.9 + 0.1 / 7)
