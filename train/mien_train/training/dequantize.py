"""Bundles' networks in float again: to teach, and to be gone on from.

What int8 kept of each weight is there. Batch normalisations were folded; each gets its own back.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from mien_edge.errors import RunError
from mien_edge.model import tflite
from mien_edge.model.bundle import Bundle, load_bundle
from numpy.typing import NDArray

from mien_train.data import read, splits
from mien_train.training import ensemble, networks, run
from mien_train.training.recipes import Recipe

_KIND = "mobile"  # the network that networks.unfold knows and a bundle can hold


def members(folders: Sequence[Path], dataset: read.Dataset) -> list[ensemble.Member]:
    """Bundles as members of an ensemble; those of one run are the heads of one network, and all are needed.

    Raises BundleError for what is no whole bundle, and RunError where heads are missing, the network is of another
    kind, or other rows of the dataset were held when it was trained.
    """
    groups: dict[str, list[Bundle]] = {}
    for folder in folders:
        found = load_bundle(folder)
        origin = {key: value for key, value in found.card.provenance.items() if key != "head"}
        groups.setdefault(json.dumps(origin, sort_keys=True), []).append(found)
    return [_member(group, dataset) for group in groups.values()]


def _member(found: Sequence[Bundle], dataset: read.Dataset) -> ensemble.Member:
    folder, origin = found[0].folder, found[0].card.provenance
    try:
        if (kind := origin["recipe"]["network"]) != _KIND:
            raise RunError(f"{folder}: its network is a `{kind}`; only a `{_KIND}` can be had from a bundle")
        recipe, start, command = run.parse_recipe(origin["recipe"]), origin["start"], origin["command"]
        heads = [each.card.provenance["head"] for each in found]
        split = splits.split_name(origin["data"]["split"])
        was_held = origin["data"].get("held rows")
        sha256 = origin["data"]["sha256"]
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise RunError(f"{folder}: its card's origin does not fit this mien ({problem}); export it again") from None
    if sorted(heads) != sorted(recipe.heads):
        wanted = ", ".join(recipe.heads)
        raise RunError(f"{folder} is one head of a network; name one bundle of each head of its run: {wanted}")
    parts = splits.split(dataset, split)
    facts = ensemble.facts(dataset, parts, split, recipe)
    if was_held != facts["held rows"] if was_held else sha256 != dataset.sha256:
        raise RunError(f"{folder} was trained on other data; give the data that it was trained on with --data")
    ordered = [found[heads.index(head)] for head in recipe.heads]
    weights = network(ordered, recipe, recipe.preprocess.normalize(dataset.images[parts.train])).get_weights()
    name = "+".join(each.card.id for each in ordered)
    return ensemble.Member(name, recipe, command, facts, ensemble.halved(weights), start)


def network(found: Sequence[Bundle], recipe: Recipe, crops: NDArray[np.uint8]) -> tf_keras.Model:
    """The recipe's network with all its heads, from the bundles of its heads in order. crops: toned (n, s, s) of the
    training rows. Raises RunError where bundles are no heads of one such network.
    """
    try:
        stored = [tflite.weights(each.model.read_bytes()) for each in found]
        bodies = [weights[:-1] for weights in stored]
        for each, body in zip(found, bodies, strict=True):
            if not _alike(body, bodies[0]):
                raise RunError(f"{each.folder} and {found[0].folder} are not of one network; give bundles of one run")
        model = networks.build(recipe)
        kernels = [np.moveaxis(kernel, 0, -1) for _, kernel, _ in bodies[0]]
        networks.unfold(model, kernels, [bias for _, _, bias in bodies[0]], crops)
        heads = [(kernel.T, bias) for _, kernel, bias in (weights[-1] for weights in stored)]
        model.layers[-1].set_weights([np.concatenate(each, axis=-1) for each in zip(*heads, strict=True)])
    except (ValueError, TypeError, IndexError) as problem:
        raise RunError(f"{found[0].model} does not fit its card's recipe ({problem}); copy the bundle again") from None
    return model


def _alike(one: Sequence[tuple[Any, ...]], other: Sequence[tuple[Any, ...]]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(mine, its) for a, b in zip(one, other, strict=True) for mine, its in zip(a, b, strict=True)
    )
