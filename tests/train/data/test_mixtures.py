import dataclasses

import numpy as np
import pytest
from mien_edge.contract import Preprocess
from mien_train.data import mixtures, strengths
from mien_train.training.samples import Pictures, PortionMaker, View

PREPROCESS = Preprocess(size=48, margin=-0.03, normalization="standardize")


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (64, 48, 48), np.uint8)
    return Pictures(images, None, None, None, PREPROCESS)


def drawn(count=1000, **shares):
    augment = dataclasses.replace(strengths.OFF, **shares)
    return mixtures.draw_mixtures(count, augment, np.random.default_rng(1))


def test_as_many_pictures_are_mixed_as_the_strengths_say():
    own = drawn(blend=0.3, splice=0.2)
    assert (own.share > 0).mean() == pytest.approx(0.3, abs=0.05)
    assert (own.seam < 1).mean() == pytest.approx(0.2, abs=0.05)
    assert not ((own.share > 0) & (own.seam < 1)).any()
    assert not drawn().is_mixture.any()


def test_a_splice_has_the_upper_half_of_one_and_the_lower_of_the_other():
    own = drawn(count=8, splice=1.0)
    crops = np.full((8, 48, 48), 200, np.uint8)
    others = np.full((8, 48, 48), 50, np.uint8)
    mixed = mixtures.mix(crops, others, own)
    assert (mixed[:, :12] == 200).all()
    assert (mixed[:, -4:] == 50).all()
    middle = (mixed < 125).argmax(axis=1)[:, 0] / 48
    assert np.allclose(middle, own.seam, atol=1 / 48)


def test_a_blend_has_the_drawn_share_of_the_other_perhaps_mirrored():
    own = drawn(count=8, blend=1.0)
    rng = np.random.default_rng(2)
    crops = rng.integers(0, 256, (8, 48, 48), np.uint8)
    others = rng.integers(0, 256, (8, 48, 48), np.uint8)
    mirrored = np.where(own.is_mirrored[:, None, None], others[:, :, ::-1], others)
    share = own.share[:, None, None]
    expected = (1 - share) * crops + share * mirrored
    assert np.abs(mixtures.mix(crops, others, own) - expected).max() <= 0.5


def test_a_views_mixtures_are_of_its_own_pictures_and_the_same_for_any_rows(pictures):
    augment = dataclasses.replace(strengths.Augment(), blend=0.4, splice=0.3)
    view = View(pictures, augment, (1, 2, 3))
    unmixed = View(pictures, strengths.Augment(), (1, 2, 3))
    every = np.arange(64)
    whole = view(every)
    assert np.array_equal(view(every[10:20]), whole[10:20])
    is_mixture = view.mixtures.is_mixture
    plain = unmixed(every)
    assert np.array_equal(whole[~is_mixture], plain[~is_mixture])
    others = plain[view.mixtures.partner]
    mixed = mixtures.mix(plain, others, view.mixtures)
    assert np.array_equal(whole[is_mixture], mixed[is_mixture])
    assert not np.array_equal(whole[is_mixture], plain[is_mixture])


def test_without_a_teacher_nothing_is_mixed(pictures):
    plain = dataclasses.replace(strengths.Augment(), erase=0.0)
    mixing = dataclasses.replace(plain, blend=0.5, splice=0.5)

    def first_view(augment, teacher_views):
        view = PortionMaker(pictures, augment, 8, 3, teacher_views)._view(0)
        return view(np.arange(8))

    assert np.array_equal(first_view(mixing, 0), first_view(plain, 0))
    assert not np.array_equal(first_view(mixing, 1), first_view(plain, 1))
