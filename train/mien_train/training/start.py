"""What a network's weights begin from."""

from pathlib import Path

from mien_edge.errors import RunError

from mien_train.training import pretrained
from mien_train.training.ensemble import Member, load
from mien_train.training.recipes import Recipe

_WANTED = {"teacher": "a network of its own shape, or a cut of a `face`", "cut": "a cut of a `face`"}


def source(recipe: Recipe, folder: Path) -> Member:
    """The network of an ensemble that a recipe starts from whose `start` is 'teacher' or 'cut'; of those that count the
    one that counts most. Raises RunError where there is none.
    """
    found = [member for member in load(folder).members if member.share]
    own = [each for each in found if recipe.start == "teacher" and each.has_shape_of(recipe)]
    chosen = own or [each for each in found if each.recipe.network == "face" and recipe.network == "mobile"]
    if not chosen:
        raise RunError(
            f"{folder}: {recipe.name} starts from {_WANTED[recipe.start]}, and there is none; train one with: "
            f"mien-train fit teacher-face --teacher {folder} --pretrained …, then make another: mien-train ensemble "
            f"FOLDER {folder} runs/teacher-face"
        )
    return max(chosen, key=lambda member: member.share)


def began(recipe: Recipe, teacher: Path | None) -> str:
    """What a recipe's weights are before its first epoch, and were before that. Raises RunError as `source` does."""
    if teacher is None or not recipe.starts_from_teacher:
        return pretrained.origin(recipe)
    given = source(recipe, teacher)
    return f"{'' if given.has_shape_of(recipe) else 'cut out of '}{given.name}, before that: {given.start}"
