"""FER2013 from Kaggle, with the user's own token."""

import os
import shutil
from pathlib import Path

from mien_edge.errors import DataError

_TOKEN_VARIABLES = ("KAGGLE_KEY", "KAGGLE_API_TOKEN")
_TOKEN_FILES = ("kaggle.json", "access_token")


def fetch(dataset: str, folder: Path) -> Path:
    """Download the Kaggle data set `dataset`, such as msambare/fer2013, into `folder` with
    kagglehub.

    Returns `folder`. Raises DataError where there is no token (and says how to get one), where the
    folder holds something, or where Kaggle refuses.
    """
    _check_token(Path.home() / ".kaggle")
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; remove it, or name another folder with --into")
    import kagglehub

    try:
        download = Path(kagglehub.dataset_download(dataset))
    except Exception as problem:  # the client raises whatever its HTTP library does
        lines = str(problem).splitlines() or [type(problem).__name__]
        reason = f"Kaggle refuses {dataset} ({lines[0]})"
        raise DataError(f"{reason}; check the token and the network") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(download, folder, dirs_exist_ok=True)
    return folder


def _check_token(folder: Path) -> None:
    """Raise DataError where neither an environment variable nor a file in `folder` holds a token of
    Kaggle.
    """
    in_environment = any(name in os.environ for name in _TOKEN_VARIABLES)
    in_folder = any((folder / name).is_file() for name in _TOKEN_FILES)
    if not (in_environment or in_folder):
        raise DataError(
            "no Kaggle token; at kaggle.com choose Settings, API, 'Create new token', put the file "
            f"at {folder / 'kaggle.json'} (or set KAGGLE_API_TOKEN), and run this again"
        )
