"""A small MobileNet pruned from a large one."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from mien_edge.contract import as_floats
from mien_train.results import export
from mien_train.training import networks, prune, recipes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def crops():
    return export.golden_inputs(48, 96, seed=3)


def settle(model, crops):
    """Give its normalisations what they see, as in a trained network, and each channel a scale of its own."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            inputs = keras.Model(model.input, layer.input).predict(as_floats(crops[:24]), verbose=0)
            width = inputs.shape[-1]
            gamma = rng.uniform(0.5, 1.5, width)
            beta = rng.normal(0.5, 0.5, width)
            layer.set_weights([gamma, beta, inputs.mean((0, 1, 2)), inputs.var((0, 1, 2)) + 1e-4])


@pytest.fixture(scope="module")
def large(crops):
    keras.utils.set_random_seed(1)
    model = networks.build(recipes.recipe("teacher-face"), 14)
    settle(model, crops)
    return model


def small(widths, halving):
    return networks.build(
        replace(recipes.EDGE, arguments={"widths": widths, "halving": halving}), 14
    )


def activations(model, layer, crops):
    """What the layer computes from crops, away from the border: there the large network's picture is padded with grey,
    the small one's with black.
    """
    return keras.Model(model.input, layer.output).predict(as_floats(crops), verbose=0)[
        :, 3:-3, 3:-3
    ]


def of_kind(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def test_a_network_from_which_nothing_is_pruned_computes_the_same(large, crops):
    model = small((32, 64, 128), ())
    prune.prune(model, large, crops, 7)
    for index in (
        0,
        1,
    ):  # the first convolution, over a doubled picture in the large network; the depthwise one
        pair = [(network, of_kind(network, keras.layers.ReLU)[index]) for network in (model, large)]
        student, teacher = (activations(network, layer, crops) for network, layer in pair)
        assert teacher.std() > 0.1
        np.testing.assert_allclose(student, teacher, atol=2e-3)


def test_a_pruned_network_computes_on_other_pictures_what_the_large_one_does_and_better_the_wider_it_is(
    large, crops
):
    others = export.golden_inputs(48, 24, seed=4)

    def explained(model):
        """How much of the selected channels' variance after the second block."""
        student, teacher = (
            of_kind(network, keras.layers.BatchNormalization)[4] for network in (model, large)
        )
        scales = teacher.get_weights()[
            0
        ].tolist()  # each channel's own: they show which were selected
        channels = [scales.index(scale) for scale in student.get_weights()[0].tolist()]
        outputs = activations(model, student, others)
        targets = activations(large, teacher, others)[..., channels]
        return 1 - np.square(outputs - targets).mean() / targets.var(axis=(0, 1, 2)).mean()

    shares = []
    for divisor in (1, 2, 8):
        model = small((32 // divisor, 64 // divisor, 128 // divisor), (2,))
        prune.prune(model, large, crops, 7)
        shares.append(explained(model))
    fitted = of_kind(model, keras.layers.Conv2D)[-1]
    fitted.set_weights([fitted.get_weights()[0][..., ::-1]])
    shares.append(explained(model))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9


def test_the_channels_selected_are_those_that_the_others_follow_from():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(500, 3))
    channels = np.stack(
        [own[:, 0], own[:, 0] + own[:, 1], own[:, 1], 2 * own[:, 2], 0.01 * rng.normal(size=500)], 1
    )
    covariance = channels.T @ channels / len(channels)
    selected = prune.select_greedily(covariance, np.eye(5), 3)
    assert 3 in selected
    assert 4 not in selected
    blind = prune.select_greedily(
        covariance, np.diag([1.0, 1, 1, 0, 0]), 2
    )  # what nobody looks at needs no channel
    assert set(blind) <= {0, 1, 2}
    assert len(prune.select_greedily(covariance, np.eye(5), 5)) == 5
