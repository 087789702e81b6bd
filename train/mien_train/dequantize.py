"""Bundles' networks in float again: to teach, and to be gone on from.

What int8 kept of each weight is there. Batch normalisations were folded; each gets its own back.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from mien_edge import bundle, graph
from mien_edge.bundle import Bundle
from mien_edge.errors import RunError
from numpy.typing import NDArray

from mien_train import data, ensemble, networks, runs
from mien_train.recipes import Recipe

_UNFOLDED = "mobile"  # the network that networks.unfold knows and a bundle can hold


def members(folders: Sequence[Path], dataset: data.Dataset) -> list[ensemble.Member]:
    """Bundles as members of an ensemble; those of one run are the heads of one network, and all are needed.

    Raises BundleError for what is no whole bundle, and RunError where heads are missing, the network is of another
    kind, or its rows were others than the dataset's, for then nobody knows which of them were held.
    """
    runs_found: dict[str, list[Bundle]] = {}
    for folder in folders:
        found = bundle.load(folder)
        runs_found.setdefault(f"{found.card.origin.get('command')}, {found.card.version}", []).append(found)
    return [_member(group, dataset) for group in runs_found.values()]


def _member(found: Sequence[Bundle], dataset: data.Dataset) -> ensemble.Member:
    origin, folder = found[0].card.origin, found[0].folder
    try:
        recipe, source = runs.parse_recipe(origin["recipe"]), origin["data"]
        start, command = origin["start"], origin["command"]
    except (KeyError, TypeError) as problem:
        raise RunError(f"{folder}: its card does not tell {problem} of its origin; make the bundle anew") from None
    if recipe.network != _UNFOLDED:
        raise RunError(f"{folder}: its network is a `{recipe.network}`; only a `{_UNFOLDED}` can be had from a bundle")
    if source["sha256"] != dataset.sha256:
        raise RunError(f"{folder} was trained on other data; give the data that it was trained on with --data")
    told = {each.card.origin["head"]: each for each in found}
    missing = [head for head in recipe.heads if head not in told]
    if missing:
        raise RunError(f"{folder} is one head of a network; name the bundle of {' and '.join(missing)} as well")
    split = data.split(dataset, source["split"])
    crops = recipe.preprocess.toned(dataset.images[split.train])
    weights = network([told[head] for head in recipe.heads], recipe, crops).get_weights()
    facts = ensemble.facts(dataset, split, source["split"], recipe)
    name = f"{recipe.name}-{found[0].card.version}"
    return ensemble.Member(name, recipe, command, facts, ensemble.halved(weights), start)


def network(found: Sequence[Bundle], recipe: Recipe, crops: NDArray[np.uint8]) -> tf_keras.Model:
    """The recipe's network with all its heads, from the bundles of its heads in order. crops: toned (n, s, s) of the
    training rows. Raises RunError where bundles are no heads of one such network.
    """
    stored = [graph.weights(each.model.read_bytes()) for each in found]
    bodies = [weights[:-1] for weights in stored]
    for each, body in zip(found, bodies, strict=True):
        if not _alike(body, bodies[0]):
            raise RunError(f"{each.folder} and {found[0].folder} are not of one network; give bundles of one run")
    model = networks.build(recipe)
    kernels = [np.moveaxis(kernel, 0, -1) for _, kernel, _ in bodies[0]]
    heads = [(kernel.T, bias) for _, kernel, bias in (weights[-1] for weights in stored)]
    try:
        networks.unfold(model, kernels, [bias for _, _, bias in bodies[0]], crops)
        model.layers[-1].set_weights([np.concatenate(each, axis=-1) for each in zip(*heads, strict=True)])
    except ValueError as problem:
        raise RunError(f"{found[0].model} does not fit its card's recipe ({problem}); copy the bundle again") from None
    return model


def _alike(one: Sequence[tuple[Any, ...]], other: Sequence[tuple[Any, ...]]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(mine, its) for a, b in zip(one, other, strict=True) for mine, its in zip(a, b, strict=True)
    )
