"""Recipes: everything that decides a model, as frozen values. `mien-train run NAME` runs one from
data to bundle.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from mien_edge import schema
from mien_edge.contract import LABELS, Preprocess
from mien_edge.errors import RunError

from mien_train.data.heads import FER2013, FERPLUS, FERPLUS8, LABELS_HEAD, REAL, find_head, learned
from mien_train.data.strengths import Augment

_RENAMED_STAGE_FIELDS = {
    "taught": "distillation_weight",
    "views": "teacher_views",
    "average": "ema_decay",
    "smoothing": "label_smoothing",
    "warmup": "warmup_epochs",
}
_RENAMED_RECIPE_FIELDS = {"start": "initial_weights"}
_RENAMED_INITIAL_WEIGHTS = {"": "random", "cut": "pruned"}
"""Names in recipes that earlier versions recorded (run.json, ensemble.json, card.json), and what
they are now.
"""


@dataclass(frozen=True)
class Stage:
    """One training stage.

    epochs, batch_size: counts; `fit` with no epoch keeps its first weights. learning_rate: its
    peak, reached after `warmup_epochs`, then falling to zero as `schedule` says: 'cosine' or
    'linear'. optimizer: 'adamw' (Loshchilov & Hutter 2017) or 'sgd' with Nesterov's momentum of
    0.9; weight_decay: decoupled, for either. label_smoothing: 0..1. ema_decay: of the exponential
    moving average of weights, 0 for none. patience: epochs without a better validation accuracy
    after which training stops. distillation_weight: 0..1, how much of a target is the teacher's
    probabilities, the rest being labels. distilled_from: who that is, an ensemble or, for
    `quantize`, the float network that `fit` made. teacher_views: over how many cached augmented
    views of the training rows the epochs of a distilled stage cycle.
    selection: whether the weights of the epoch with the best validation accuracy are taken, or, for
    so few validation rows that this is chance, those of the last.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_epochs: int = 2
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    ema_decay: float = 0.998
    patience: int = 20
    augment: Augment = field(default_factory=Augment)
    distillation_weight: float = 0.0
    distilled_from: Literal["ensemble", "fit"] = "ensemble"
    teacher_views: int = 16
    optimizer: str = "adamw"
    schedule: str = "cosine"
    selection: Literal["best", "last"] = "best"

    @property
    def learns_from_ensemble(self) -> bool:
        """Whether part of its targets is an ensemble's."""
        return self.distillation_weight > 0 and self.distilled_from == "ensemble"


@dataclass(frozen=True)
class Recipe:
    """A model from data to bundle.

    network: a function's name in networks.py; arguments: its keyword arguments. fit: float
    training; quantize: quantization-aware training from the fitted weights. heads: what the outputs
    predict, names of heads.HEADS, or 'labels' for whatever labels the data have; a bundle carries
    one of them. precision: Keras' policy for float training, 'mixed_bfloat16' is faster for plain
    convolutions. initial_weights: the weights before the first epoch: 'random'; 'pretrained' for
    those of the file that --pretrained names (see pretrained.py); 'pruned' for the teacher's face
    network, pruned (see prune.py); 'teacher' for the teacher's network of the same shape, or a
    pruned one where there is none; 'bundle' for the network of a bundle (see finetune.py). Where
    they come from a teacher, `fit` is distilled. cross_validated: whether it is for so few rows
    that folds of all of them measure it; then the bundle's earlier knowledge is rehearsed.
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
    heads: tuple[str, ...] = (FER2013.name,)
    precision: str = "float32"
    initial_weights: Literal["random", "pretrained", "pruned", "teacher", "bundle"] = "random"
    cross_validated: bool = False

    @property
    def starts_from_teacher(self) -> bool:
        """Whether its first weights come from its teacher's networks."""
        return self.initial_weights in ("teacher", "pruned")

    @property
    def starts_from_bundle(self) -> bool:
        """Whether its first weights are those of a bundle."""
        return self.initial_weights == "bundle"

    @property
    def is_distilled(self) -> bool:
        """Whether any of its stages learns from an ensemble."""
        learns = self.fit.learns_from_ensemble or self.quantize.learns_from_ensemble
        return learns and not self.cross_validated

    @property
    def needs_ensemble(self) -> bool:
        """Whether it learns from an ensemble, or starts from a network of one."""
        return self.is_distilled or self.starts_from_teacher

    @property
    def learned_heads(self) -> tuple[str, ...]:
        """Its heads that learn from labels; the others are derived from a teacher's."""
        return learned(self.heads)

    @property
    def needs_votes(self) -> bool:
        """Whether any of its heads learns from FER+'s votes."""
        return any(_needs_votes(name) for name in self.heads)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"preprocess": schema.to_dict(self.preprocess)}


_BOTH_HEADS = (FER2013.name, FERPLUS.name)


def _quantize(epochs: int, augment: Augment) -> Stage:
    return Stage(
        epochs,
        learning_rate=1e-4,
        warmup_epochs=0,
        weight_decay=0.002,
        patience=epochs,
        augment=augment,
    )


_PLAIN = Augment(
    rotate=0,
    scale=0,
    shift=0,
    brightness=0,
    contrast=0,
    blur=0,
    noise=0,
    erase=0,
    mixup=0,
)
"""Mirror images only."""

SEED = Recipe(
    "seed",
    "seed",
    fit=Stage(
        20,
        learning_rate=5e-4,
        label_smoothing=0,
        weight_decay=0,
        ema_decay=0,
        augment=_PLAIN,
    ),
    quantize=_quantize(2, _PLAIN),
)

TINY = Recipe(
    "tiny",
    "residual",
    arguments={"stem": 4, "widths": (8, 12), "depths": (1, 1)},
    fit=Stage(3, batch_size=32, warmup_epochs=0, ema_decay=0.9),
    quantize=replace(_quantize(1, Augment()), batch_size=32, ema_decay=0.9),
)

_HARD = Augment(
    rotate=15,
    scale=0.2,
    shift=3.5,
    brightness=25,
    contrast=0.3,
    gamma=0.4,
    blur=0.15,
    noise=8,
    erase=0.4,
    mixup=0.2,
    device=0.3,
    shrink=0.15,
    jpeg=0.15,
)
"""What cameras and detectors do to a face; see models/README.md for what it is worth."""

_MILD = replace(
    _HARD,
    rotate=10,
    scale=0.12,
    shift=2.5,
    gamma=0.25,
    noise=6,
    erase=0.25,
    mixup=0.1,
    shrink=0.1,
    jpeg=0.1,
)

_LEARN = Stage(45, learning_rate=1.5e-3, patience=45, augment=_HARD)

TEACHER_PLAIN = Recipe(
    "teacher-plain",
    "plain",
    arguments={"widths": (48, 96, 192, 384), "depths": (2, 2, 2, 2)},
    fit=_LEARN,
    quantize=_quantize(1, _HARD),
    heads=_BOTH_HEADS,
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
    fit=Stage(
        60,
        learning_rate=1.5e-3,
        label_smoothing=0.05,
        patience=60,
        augment=_CAMERA,
        distillation_weight=0.6,
        teacher_views=16,
    ),
)
"""Born again (Furlanello et al. 2018): a teacher that is itself distilled, on the views that the
edge network sees.
"""

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
        warmup_epochs=1,
        weight_decay=0.02,
        distillation_weight=0.5,
        teacher_views=35,
    ),
    precision="float32",
    initial_weights="pretrained",
)
"""Its weights know faces already: after 16 epochs it is where the others are after 45, and it
improves further.
"""

TEACHER_FACE_LARGE = replace(
    TEACHER_FACE,
    name="teacher-face-large",
    arguments={"enlarge": 3},
    fit=replace(
        _LEARN,
        epochs=47,
        patience=47,
        batch_size=256,
        learning_rate=7e-4,
        warmup_epochs=1,
    ),
    precision="mixed_bfloat16",
)
"""The same on crops three times as large, from labels and votes alone. For an accelerator:
`KERAS_BACKEND=jax mien-train fit teacher-face-large --pretrained …`.
"""

TEACHER_FACE_LARGER = replace(
    TEACHER_FACE_LARGE,
    name="teacher-face-larger",
    arguments={"enlarge": 4},
    fit=replace(
        TEACHER_FACE_LARGE.fit,
        epochs=56,
        patience=56,
        learning_rate=8e-4,
        augment=replace(_CAMERA, erase=0.4, mixup=0, blend=0.35, splice=0.15),
        distillation_weight=0.7,
        teacher_views=28,
    ),
)
"""Four times as large, born again from an ensemble's word on mixtures too: the best single network.
For an accelerator.
"""

EDGE_FRESH = Recipe(
    "edge-fresh",
    "residual",
    arguments={"stem": 16, "widths": (32, 48, 96, 192), "depths": (1, 1, 2, 1)},
    fit=Stage(
        120,
        learning_rate=2e-3,
        label_smoothing=0,
        patience=120,
        augment=_CAMERA,
        distillation_weight=0.9,
        teacher_views=16,
    ),
    quantize=replace(
        _quantize(10, _CAMERA),
        label_smoothing=0,
        distillation_weight=0.9,
        teacher_views=16,
    ),
    heads=_BOTH_HEADS,
    precision="mixed_bfloat16",
)
"""From random weights."""

EDGE = replace(
    EDGE_FRESH,
    name="edge",
    network="mobile",
    arguments={
        "widths": (16, 32, 64, 64, 128, 128, *[288] * 6, 512, 288),
        "halving": (2, 4, 6, 12),
    },
    fit=replace(
        EDGE_FRESH.fit,
        epochs=60,
        patience=60,
        learning_rate=1e-3,
        warmup_epochs=1,
        weight_decay=0.02,
        distillation_weight=0.7,
        teacher_views=16,
    ),
    quantize=replace(EDGE_FRESH.quantize, distillation_weight=0.7, teacher_views=16),
    heads=(*_BOTH_HEADS, REAL.name),
    precision="float32",
    initial_weights="teacher",
)
"""What ships: fine-tuned from the network that shipped before, where its teacher has that."""

EDGE_LONG = replace(
    EDGE,
    name="edge-long",
    fit=replace(
        EDGE.fit,
        epochs=425,
        patience=425,
        batch_size=512,
        learning_rate=1.5e-3,
        ema_decay=0.999,
        augment=replace(_CAMERA, mixup=0, blend=0.35, splice=0.2),
        distillation_weight=1.0,
        teacher_views=213,
    ),
)
"""The same for hundreds of epochs, half of whose pictures are mixtures, and from the teacher alone:
what it says of training pictures it has partly learned by heart. In eight minutes on an H100:
`KERAS_BACKEND=jax mien-train fit edge-long --teacher …`; then `edge-quantize`.
"""

EDGE_QUANTIZE = replace(
    EDGE,
    name="edge-quantize",
    fit=replace(EDGE.fit, epochs=0, distillation_weight=0.0),
    quantize=replace(
        EDGE.quantize,
        epochs=8,
        patience=8,
        learning_rate=5e-5,
        distillation_weight=1.0,
        distilled_from="fit",
        teacher_views=12,
    ),
)
"""Quantization-aware training alone, of the edge network that an ensemble has: a float network that
was trained long on an accelerator becomes bundles in minutes. It learns to be that network.
"""

EDGE_CUT = replace(EDGE, name="edge-cut", heads=_BOTH_HEADS, initial_weights="pruned")
"""How the first of those was made: as good before its first epoch as `edge-fresh` after fourteen.
"""

EDGE_CONTEMPT = replace(
    EDGE,
    name="edge-contempt",
    fit=Stage(
        20,
        learning_rate=5e-4,
        warmup_epochs=1,
        weight_decay=0.02,
        label_smoothing=0,
        patience=20,
        augment=_CAMERA,
    ),
    quantize=replace(_quantize(5, _CAMERA), label_smoothing=0),
    heads=(FERPLUS8.name,),
    initial_weights="bundle",
)
"""FER+ with contempt: `mien-train run edge-contempt --start models/current --data fer2013.csv`,
with FER+'s votes beside it. Seven outputs begin as the bundle's; the eighth, which no teacher has,
is fresh.

Measured short: after three epochs, and one of quantization-aware training, on 8,117 Training rows
with all 162 of contempt, the int8 network agrees with 83.04 % of FER+'s majorities on 1,150 rows of
PublicTest. So does edge-ferplus-4, wrong on all 24 of contempt; so is the new one yet, although the
probability of contempt ranks these 24 before another row 88 times of 100.
"""

FINETUNE = replace(
    EDGE,
    name="finetune",
    fit=Stage(
        12,
        batch_size=16,
        learning_rate=2.5e-4,
        warmup_epochs=1,
        weight_decay=0.02,
        label_smoothing=0,
        ema_decay=0.97,
        patience=12,
        augment=_CAMERA,
        distillation_weight=0.3,
        selection="last",
    ),
    quantize=replace(
        _quantize(3, _CAMERA),
        batch_size=16,
        learning_rate=3e-5,
        label_smoothing=0,
        ema_decay=0.97,
        distillation_weight=0.3,
        selection="last",
    ),
    heads=(LABELS_HEAD,),
    initial_weights="bundle",
    cross_validated=True,
)
"""From a bundle to one's own photographs and labels, in minutes; network and preprocessing are the
bundle's.
"""

RECIPES = {
    recipe.name: recipe
    for recipe in (
        SEED,
        TINY,
        EDGE_FRESH,
        EDGE_CUT,
        EDGE,
        EDGE_CONTEMPT,
        EDGE_LONG,
        EDGE_QUANTIZE,
        TEACHER_PLAIN,
        TEACHER_RESIDUAL,
        TEACHER_AGAIN,
        TEACHER_FACE,
        TEACHER_FACE_LARGE,
        TEACHER_FACE_LARGER,
        FINETUNE,
    )
}


def recipe(name: str) -> Recipe:
    """Return the recipe of that name. Raises RunError, which names those there are."""
    if name not in RECIPES:
        raise RunError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def fit_to_data(
    recipe: Recipe,
    label_names: Sequence[str],
    has_votes: bool,
    has_teacher: bool,
) -> Recipe:
    """Return the recipe with the heads that such data can teach.

    label_names: of the data; where they are not FER2013's seven, the one head predicts them.
    has_votes: whether the data have FER+ votes; without, the heads that need them go. has_teacher:
    whether there is an ensemble to distill from, which must have the same heads; a recipe that had
    to change and has none learns from labels alone, from random weights. The same recipe where
    nothing has to change, or no head would be left.
    """
    heads = tuple(name for name in recipe.heads if has_votes or not _needs_votes(name))
    if set(label_names) != set(LABELS):
        heads = (LABELS_HEAD,)
    if not heads or heads == recipe.heads:
        return recipe
    changed = replace(recipe, heads=heads)
    return changed if has_teacher else _without_teacher(changed)


def _needs_votes(head: str) -> bool:
    return head != LABELS_HEAD and find_head(head).needs_votes


def _without_teacher(recipe: Recipe) -> Recipe:
    starts_from_teacher = recipe.starts_from_teacher
    return replace(
        recipe,
        heads=recipe.learned_heads,
        fit=_by_labels(recipe.fit),
        quantize=_by_labels(recipe.quantize),
        initial_weights="random" if starts_from_teacher else recipe.initial_weights,
    )


def _by_labels(stage: Stage) -> Stage:
    """Return a distilled stage that learns from labels instead."""
    if not stage.distillation_weight:
        return stage
    return replace(stage, distillation_weight=0.0, label_smoothing=0.1)


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """Return the recipe that `Recipe.to_dict` described, of this version or an earlier one. Raises
    KeyError, TypeError or RunError where a value is missing, unknown or of the wrong type.
    """
    renamed = _rename_keys(values, _RENAMED_RECIPE_FIELDS)
    names = {field.name for field in fields(Recipe)}
    arguments = {key: value for key, value in renamed.items() if key in names}
    arguments["fit"] = _parse_stage(values["fit"])
    arguments["quantize"] = _parse_stage(values["quantize"])
    preprocess = values["preprocess"]
    arguments["preprocess"] = schema.from_dict(Preprocess, preprocess, "preprocess", RunError)
    arguments["heads"] = tuple(values["heads"])
    arguments["initial_weights"] = _parse_initial_weights(renamed)
    return Recipe(**arguments)


def _parse_stage(values: dict[str, Any]) -> Stage:
    arguments = _rename_keys(values, _RENAMED_STAGE_FIELDS)
    arguments["augment"] = Augment(**values["augment"])
    return Stage(**arguments)


def _parse_initial_weights(values: dict[str, Any]) -> str:
    if "initial_weights" in values:
        recorded = values["initial_weights"]
        return _RENAMED_INITIAL_WEIGHTS.get(recorded, recorded)
    # recorded before there was such a field
    if values.get("pretrained"):
        return "pretrained"
    if values.get("cut"):
        return "pruned"
    return "random"


def _rename_keys(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}
