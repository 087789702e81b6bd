"""Recipes: everything that decides a model, as frozen values. `mien-train run NAME` runs one from data to bundle."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mien_edge.contract import Preprocess
from mien_edge.errors import RunError

from mien_train.augment import Augment


@dataclass(frozen=True)
class Stage:
    """One training stage.

    epochs, batch_size: counts. learning_rate: its peak, reached after `warmup` epochs, then a cosine to zero.
    weight_decay: of AdamW (Loshchilov & Hutter 2017). smoothing: label smoothing 0..1. average: decay of the
    exponential moving average of weights, 0 for none. patience: epochs without a better validation accuracy after
    which training stops.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: int = 2
    weight_decay: float = 0.05
    smoothing: float = 0.1
    average: float = 0.998
    patience: int = 20
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True)
class Recipe:
    """A model from data to bundle.

    start: the recipe whose fitted weights this one starts from (a warm restart); it must have the same network.
    network: a function's name in networks.py; arguments: its keyword arguments. fit: float training; quantize:
    quantisation-aware training from the fitted weights.
    """

    name: str
    network: str
    fit: Stage
    quantize: Stage
    arguments: dict[str, Any] = field(default_factory=dict)
    preprocess: Preprocess = field(default_factory=lambda: Preprocess(size=48, margin=-0.03, tone="standard"))
    seed: int = 0
    start: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _quantize(epochs: int, augment: Augment) -> Stage:
    return Stage(epochs, learning_rate=1e-4, warmup=0, weight_decay=0.002, patience=epochs, augment=augment)


_PLAIN = Augment(rotate=0, scale=0, shift=0, brightness=0, contrast=0, blur=0, noise=0, erase=0, mixup=0)

SEED = Recipe(
    "seed",
    "seed",
    fit=Stage(20, learning_rate=5e-4, smoothing=0, weight_decay=0, average=0, augment=_PLAIN),
    quantize=_quantize(2, _PLAIN),
)

TINY = Recipe(
    "tiny",
    "residual",
    arguments={"stem": 4, "widths": (8, 12), "depths": (1, 1)},
    fit=Stage(3, batch_size=32, warmup=0, average=0.9),
    quantize=replace(_quantize(1, Augment()), batch_size=32, average=0.9),
)

EDGE_BASE = Recipe(
    "edge-base",
    "residual",
    arguments={"stem": 16, "widths": (24, 48, 96, 160), "depths": (1, 1, 2, 1)},
    fit=Stage(60),
    quantize=_quantize(8, Augment(mixup=0)),
)

_MILD = Augment(rotate=10, scale=0.12, shift=2.5, brightness=10, contrast=0.1, noise=4, erase=0.2, mixup=0)

EDGE = replace(
    EDGE_BASE,
    name="edge",
    start="edge-base",
    fit=Stage(45, learning_rate=1e-3, warmup=1, patience=45, augment=_MILD),
    # The strong augmentation again: with the mild one, small steps learn the training rows by heart.
    quantize=_quantize(4, Augment()),
)

RECIPES = {recipe.name: recipe for recipe in (SEED, TINY, EDGE_BASE, EDGE)}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises RunError, naming those there are."""
    if name not in RECIPES:
        raise RunError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
