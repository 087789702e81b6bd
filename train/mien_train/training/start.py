"""What a network's weights start from."""

from pathlib import Path

from mien_edge.errors import RunError
from mien_edge.model.bundle import Bundle

from mien_train.training import pretrained
from mien_train.training.ensemble import Ensemble, Member, load_ensemble
from mien_train.training.recipes import Recipe

_NEEDED = {"teacher": "a network of its own shape, or a pruned `face`", "pruned": "a pruned `face`"}


def initial_member(recipe: Recipe, teacher: Ensemble) -> Member:
    """Return the network of the teacher that the recipe starts from, the one that counts most of
    those that fit.

    recipe: one whose `initial_weights` are 'teacher' or 'pruned'. Raises RunError where no network
    fits.
    """
    weighted = [member for member in teacher.members if member.share]
    candidates = []
    if recipe.initial_weights == "teacher":
        candidates = [member for member in weighted if member.has_shape_of(recipe)]
    if not candidates:
        candidates = [member for member in weighted if _can_be_pruned(member, recipe)]
    if not candidates:
        folder = teacher.folder
        raise RunError(
            f"{folder}: {recipe.name} starts from {_NEEDED[recipe.initial_weights]}, "
            "and there is none; train one with: "
            f"mien-train fit teacher-face --teacher {folder} --pretrained …, then make another: "
            f"mien-train ensemble FOLDER {folder} runs/teacher-face"
        )
    return max(candidates, key=lambda member: member.share)


def describe(recipe: Recipe, teacher: Path | None) -> str:
    """Return what the recipe's weights are before its first epoch, and were before that.

    teacher: the folder of an ensemble, or None where none is known. Raises RunError as
    `initial_member` does.
    """
    if teacher is None or not recipe.starts_from_teacher:
        return pretrained.describe(recipe)
    member = initial_member(recipe, load_ensemble(teacher))
    network = member.name if member.has_shape_of(recipe) else f"pruned from {member.name}"
    return f"{network}, before that: {member.start}"


def describe_bundle(bundle: Bundle) -> str:
    """Return what the weights are before the first epoch, and were before that, where they start
    from a bundle.
    """
    return f"{bundle.card.id}, before that: {bundle.card.provenance['start']}"


def _can_be_pruned(member: Member, recipe: Recipe) -> bool:
    """Whether it is a `face` that doubles the picture, as `prune` expects, and the recipe's can be
    pruned from it.
    """
    is_face = member.recipe.network == "face" and member.recipe.arguments.get("enlarge", 2) == 2
    return is_face and recipe.network == "mobile"
