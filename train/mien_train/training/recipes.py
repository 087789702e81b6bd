"""Recipes: everything that decides a model, as frozen values. `mien-train run NAME` runs one from data to bundle."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mien_edge import schema
from mien_edge.contract import Preprocess
from mien_edge.errors import RunError

from mien_train.data.augment import Augment


@dataclass(frozen=True)
class Stage:
    """One training stage.

    epochs, batch_size: counts. learning_rate: its peak, reached after `warmup` epochs, then falling to zero as
    `schedule` says: 'cosine' or 'linear'. optimizer: 'adamw' (Loshchilov & Hutter 2017) or 'sgd' with Nesterov's
    momentum of 0.9; weight_decay: decoupled, for either. smoothing: label smoothing 0..1. average: decay of the
    exponential moving average of weights, 0 for none. patience: epochs without a better validation accuracy after
    which training stops. taught: how much of a target is the teacher's opinion, 0..1; views: over how many cached
    augmented views of the training rows the epochs then go round.
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
    taught: float = 0.0
    views: int = 16
    optimizer: str = "adamw"
    schedule: str = "cosine"


@dataclass(frozen=True)
class Recipe:
    """A model from data to bundle.

    network: a function's name in networks.py; arguments: its keyword arguments. fit: float training; quantize:
    quantisation-aware training from the fitted weights. heads: what the outputs are, of material.HEADS; a bundle
    carries one of them. precision: Keras' policy for float training, 'mixed_bfloat16' is faster for plain convolutions.
    start: its weights before the first epoch: '' for chance; 'pretrained' for those that --pretrained names (see
    pretrained.py); 'cut' for a cut of its teacher's face network (see cut.py); 'teacher' for its teacher's network of
    the same shape, or a cut where there is none. For the last two `fit` is taught.
    """

    name: str
    network: str
    fit: Stage
    quantize: Stage
    arguments: dict[str, Any] = field(default_factory=dict)
    preprocess: Preprocess = field(
        default_factory=lambda: Preprocess(size=48, margin=-0.03, normalization="standardize")
    )
    seed: int = 0
    heads: tuple[str, ...] = ("fer2013",)
    precision: str = "float32"
    start: Literal["", "pretrained", "cut", "teacher"] = ""

    @property
    def starts_from_teacher(self) -> bool:
        """Whether its first weights come from its teacher's networks."""
        return self.start in ("teacher", "cut")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"preprocess": schema.to_dict(self.preprocess)}


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

_HARD = Augment(
    rotate=15, scale=0.2, shift=3.5, brightness=25, contrast=0.3, gamma=0.4, blur=0.15, noise=8, erase=0.4, mixup=0.2,
    device=0.3, shrink=0.15, jpeg=0.15,
)  # fmt: skip
"""What cameras and detectors do to a face; see models/README.md for what it is worth."""

_MILD = replace(
    _HARD, rotate=10, scale=0.12, shift=2.5, gamma=0.25, noise=6, erase=0.25, mixup=0.1, shrink=0.1, jpeg=0.1
)

_LEARN = Stage(45, learning_rate=1.5e-3, patience=45, augment=_HARD)

TEACHER_PLAIN = Recipe(
    "teacher-plain",
    "plain",
    arguments={"widths": (48, 96, 192, 384), "depths": (2, 2, 2, 2)},
    fit=_LEARN,
    quantize=_quantize(1, _HARD),
    heads=("fer2013", "ferplus"),
    precision="mixed_bfloat16",
)

TEACHER_RESIDUAL = replace(
    TEACHER_PLAIN,
    name="teacher-residual",
    network="residual",
    arguments={"stem": 32, "widths": (48, 96, 192, 320), "depths": (2, 2, 2, 1)},
    fit=replace(_LEARN, epochs=30, augment=_MILD),
)

_CAMERA = replace(_MILD, noise=12, gamma=0.4, shrink=0.15, jpeg=0.15)
"""Mild in geometry, for a small network learns more slowly; strong in what cameras do."""

TEACHER_AGAIN = replace(
    TEACHER_PLAIN,
    name="teacher-again",
    fit=Stage(60, learning_rate=1.5e-3, smoothing=0.05, patience=60, augment=_CAMERA, taught=0.6, views=16),
)
"""Born again (Furlanello et al. 2018): a teacher that was itself taught, on the views that the edge network sees."""

TEACHER_FACE = replace(
    TEACHER_PLAIN,
    name="teacher-face",
    network="face",
    arguments={"enlarge": 2},
    fit=replace(
        TEACHER_AGAIN.fit,
        epochs=40,
        patience=40,
        learning_rate=7e-4,
        warmup=1,
        weight_decay=0.02,
        taught=0.5,
        views=35,
    ),
    precision="float32",
    start="pretrained",
)
"""It knows faces already: after 16 epochs it is where the others are after 45, and it goes on."""

EDGE_FRESH = Recipe(
    "edge-fresh",
    "residual",
    arguments={"stem": 16, "widths": (32, 48, 96, 192), "depths": (1, 1, 2, 1)},
    fit=Stage(120, learning_rate=2e-3, smoothing=0, patience=120, augment=_CAMERA, taught=0.9, views=16),
    quantize=replace(_quantize(10, _CAMERA), smoothing=0, taught=0.9, views=16),
    heads=("fer2013", "ferplus"),
    precision="mixed_bfloat16",
)
"""From fresh weights."""

EDGE = replace(
    EDGE_FRESH,
    name="edge",
    network="mobile",
    arguments={"widths": (16, 32, 64, 64, 128, 128, *[288] * 6, 512, 288), "halving": (2, 4, 6, 12)},
    fit=replace(
        EDGE_FRESH.fit, epochs=60, patience=60, learning_rate=1e-3, warmup=1, weight_decay=0.02, taught=0.7, views=16
    ),
    quantize=replace(EDGE_FRESH.quantize, taught=0.7, views=16),
    precision="float32",
    start="teacher",
)
"""What ships: it goes on from the network that shipped before, where its teacher has that."""

EDGE_CUT = replace(EDGE, name="edge-cut", start="cut")
"""How the first of those came about: as good before its first epoch as `edge-fresh` after fourteen."""

RECIPES = {
    recipe.name: recipe
    for recipe in (
        SEED,
        TINY,
        EDGE_FRESH,
        EDGE_CUT,
        EDGE,
        TEACHER_PLAIN,
        TEACHER_RESIDUAL,
        TEACHER_AGAIN,
        TEACHER_FACE,
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises RunError, naming those there are."""
    if name not in RECIPES:
        raise RunError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
