"""Bundles' networks in float again: as teachers, and to fine-tune from.

Each weight is what int8 left of it. Batch normalizations were folded into the kernels; each gets
its own back.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from mien_edge.errors import RunError
from mien_edge.model import tflite
from mien_edge.model.bundle import Bundle, load_bundle

from mien_train.arrays import Floats, Pixels
from mien_train.data import splits
from mien_train.data.heads import learned
from mien_train.data.read import Dataset
from mien_train.training import ensemble, fake_quant, networks
from mien_train.training.ensemble import Member
from mien_train.training.recipes import Recipe, parse_recipe

_KINDS = {
    "CONV_2D": "conv",
    "DEPTHWISE_CONV_2D": "depthwise",
    "MEAN": "mean",
    "FULLY_CONNECTED": "dense",
}
"""The kind of layer that an operator of a `mobile` is."""

_NETWORK = "mobile"  # the one that networks.unfuse_batchnorm knows and a bundle can hold


def members(folders: Sequence[Path], dataset: Dataset) -> list[Member]:
    """Return bundles as members of an ensemble; those of one run are the heads of one network, and
    all are needed.

    Raises BundleError for what is no complete bundle, and RunError where heads are missing, the
    network is of another kind, or it was trained with other validation rows than the dataset's.
    """
    runs: dict[str, list[Bundle]] = {}
    for folder in folders:
        loaded = load_bundle(folder)
        of_run = {key: value for key, value in loaded.card.provenance.items() if key != "head"}
        runs.setdefault(json.dumps(of_run, sort_keys=True), []).append(loaded)
    return [_member(bundles, dataset) for bundles in runs.values()]


def network(bundles: Sequence[Bundle], recipe: Recipe, crops: Pixels) -> keras.Model:
    """Build the recipe's float network with all its heads from their bundles, which are in the
    order of the heads.

    crops: normalized (n, s, s) uint8 of the training rows. Raises RunError where the bundles are
    not heads of one such network.
    """
    try:
        layers = [tflite.weights(head.model.read_bytes()) for head in bundles]
        _refuse_other_bodies(bundles, layers)
        outputs = sum(len(bias) for *_, bias in (own[-1] for own in layers))
        model = networks.build(recipe, outputs)
        body = layers[0][:-1]
        kernels = [np.moveaxis(kernel, 0, -1) for _, kernel, _ in body]
        biases = [bias for _, _, bias in body]
        networks.unfuse_batchnorm(model, kernels, biases, crops)
        model.layers[-1].set_weights(_join_heads([own[-1] for own in layers]))
    except (ValueError, TypeError, IndexError) as problem:
        raise RunError(
            f"{bundles[0].model} does not fit its card's recipe ({problem}); copy the bundle again"
        ) from None
    return model


def fake_quantized_network(bundle: Bundle, recipe: Recipe) -> keras.Model:
    """Build the fake-quantized network of one head that computes what its bundle does, but for
    depthwise kernels whose channels had one scale in the bundle, and have their own now.

    Raises RunError where the bundle is not of the recipe's network.
    """
    content = bundle.model.read_bytes()
    try:
        layers = _by_name(tflite.weights(content))
        model = fake_quant.build(recipe, len(layers["dense_1"].bias))
        for name, (_, kernel, bias) in layers.items():
            fake_quant.set_folded(model.get_layer(name), np.moveaxis(kernel, 0, -1), bias)
        for name, (_, low, high) in _by_name(tflite.ranges(content)).items():
            fake_quant.set_range(model, name, low, high)
    except (ValueError, KeyError) as problem:
        raise RunError(
            f"{bundle.model} does not fit its card's recipe ({problem}); copy the bundle again"
        ) from None
    fake_quant.settle(model)
    return model


def _by_name(entries: Iterable[Any]) -> dict[str, Any]:
    """Return what is known of each operator by the name of its layer (see networks.Blocks)."""
    counts: Counter[str] = Counter()
    named = {}
    for entry in entries:
        kind = _KINDS.get(entry.operator)
        if kind:
            counts[kind] += 1
            named[f"{kind}_{counts[kind]}"] = entry
    return named


def recipe_of(bundle: Bundle) -> Recipe:
    """Return the recipe of the one head of a network that a bundle carries.

    Raises RunError for a network that cannot be rebuilt, or a card that this version cannot read.
    """
    provenance = _read_provenance(bundle)
    return replace(provenance.recipe, heads=(provenance.head,))


@dataclass(frozen=True)
class _Provenance:
    """What a card says of its network. validation_rows: see ensemble.Facts; None in cards of
    earlier versions.
    """

    head: str
    recipe: Recipe
    start: str
    command: str
    split: str
    data_sha256: str
    validation_rows: str | None

    def is_of(self, dataset: Dataset, facts: ensemble.Facts) -> bool:
        """Whether the network was trained on the dataset's training rows."""
        if self.validation_rows is None:
            return self.data_sha256 == dataset.sha256
        return self.validation_rows == facts.validation_rows


def _read_provenance(loaded: Bundle) -> _Provenance:
    """Read the card. Raises RunError for a network that cannot be rebuilt, or a card that this
    version cannot read.
    """
    card = loaded.card.provenance
    try:
        kind = card["recipe"]["network"]
        if kind != _NETWORK:
            raise RunError(
                f"{loaded.folder}: its network is a `{kind}`; "
                f"only a `{_NETWORK}` can be rebuilt from a bundle"
            )
        data = card["data"]
        return _Provenance(
            head=card["head"],
            recipe=parse_recipe(card["recipe"]),
            start=card["start"],
            command=card["command"],
            split=splits.current_split_name(data["split"]),
            data_sha256=data["sha256"],
            validation_rows=data.get("validation_rows") or data.get("held rows"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise RunError(
            f"{loaded.folder}: its card's origin does not fit this mien ({problem}); "
            "export it again"
        ) from None


def _member(bundles: Sequence[Bundle], dataset: Dataset) -> Member:
    """Return the network that these bundles are the heads of."""
    provenance = _read_provenance(bundles[0])
    recipe = provenance.recipe
    bundles = _in_order_of_heads(bundles, recipe)
    split = splits.split_dataset(dataset, provenance.split)
    facts = ensemble.facts(dataset, split, provenance.split, recipe)
    if not provenance.is_of(dataset, facts):
        raise RunError(
            f"{bundles[0].folder} was trained on other data; "
            "give the data that it was trained on with --data"
        )
    crops = recipe.preprocess.normalize(dataset.images[split.train])
    weights = network(bundles, recipe, crops).get_weights()
    return Member(
        name="+".join(head.card.id for head in bundles),
        recipe=recipe,
        command=provenance.command,
        facts=facts,
        weights=ensemble.round_kernels(weights),
        start=provenance.start,
    )


def _in_order_of_heads(bundles: Sequence[Bundle], recipe: Recipe) -> list[Bundle]:
    """Return the bundles of those heads that learn from labels, as the recipe names them. Raises
    RunError unless there is one of each.
    """
    heads = [_read_provenance(loaded).head for loaded in bundles]
    if sorted(learned(heads)) != sorted(recipe.learned_heads):
        raise RunError(
            f"{bundles[0].folder} is one head of a network; "
            f"name one bundle of each head of its run: {', '.join(recipe.learned_heads)}"
        )
    return [bundles[heads.index(head)] for head in recipe.learned_heads]


def _refuse_other_bodies(bundles: Sequence[Bundle], layers: Sequence[Sequence[Any]]) -> None:
    """Raise RunError unless all layers but the last are the same in all bundles."""
    first = layers[0][:-1]
    for loaded, own in zip(bundles, layers, strict=True):
        if not _are_equal(own[:-1], first):
            raise RunError(
                f"{loaded.folder} and {bundles[0].folder} are not of one network; "
                "give bundles of one run"
            )


def _are_equal(layers: Sequence[Any], others: Sequence[Any]) -> bool:
    if len(layers) != len(others):
        return False
    pairs = zip(layers, others, strict=True)
    return all(all(map(np.array_equal, layer, other)) for layer, other in pairs)


def _join_heads(layers: Sequence[Any]) -> list[Floats]:
    """Return the kernel and the bias of one dense layer that computes the logits of all heads, one
    after the other.
    """
    kernels = [kernel.T for _, kernel, _ in layers]
    biases = [bias for _, _, bias in layers]
    return [np.concatenate(kernels, axis=-1), np.concatenate(biases, axis=-1)]
