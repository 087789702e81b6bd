"""Where a study of `mien-train tune` is kept: in a file of its folder, or in a database.

A database is one that SQLAlchemy knows; PostgreSQL is what several machines at one study are for.
No message shows a password.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mien_edge import files
from mien_edge.addresses import mask_address, mask_text
from mien_edge.errors import RunError
from optuna import Study
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

DATABASE_ERRORS = (StorageInternalError, SQLAlchemyError)
"""What Optuna raises where the database is gone, or refuses."""

_DRIVER = "postgresql+psycopg"
_NAMES_OF_POSTGRESQL = ("postgres", "postgresql")
_CONNECT_SECONDS = 10
_ADVICE = "is no URL of a database, such as postgresql://HOST/NAME"
_FOLDER = "folder"


def open_storage(folder: Path, url: str) -> BaseStorage:
    """Open study.log in a study's folder, or the database that a URL names.

    url: as SQLAlchemy takes it (https://docs.sqlalchemy.org/en/21/core/engines.html#database-urls);
    empty for the file. PostgreSQL is reached by psycopg, so that a password may stand in
    ~/.pgpass instead.

    Raises RunError, which shows no password, for what is no such URL, and for a database that
    cannot be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not url:
        return JournalStorage(JournalFileBackend(str(folder / "study.log")))
    database = _parse(url)
    # A connection that lay idle while a trial trained may be gone.
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if database.drivername == _DRIVER and "connect_timeout" not in database.query:
        arguments["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    # Optuna takes the URL for a template.
    template = database.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    with database_errors(url):
        try:
            return RDBStorage(template, engine_kwargs=arguments)
        except ImportError:
            raise RunError(
                f"the driver of {database.drivername} is not installed; for PostgreSQL: "
                "pip install 'mien[tune-postgresql]'"
            ) from None
        except RuntimeError as problem:  # tables of another version of Optuna
            raise RunError(f"{mask_address(url)}: {problem}") from None


@contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turn what the database of this URL raises in the block into a RunError of one line."""
    try:
        yield
    except DATABASE_ERRORS as problem:
        raise RunError(
            f"{mask_address(url)}: {_reason(problem)}; see that the database runs and lets you in, "
            "then run the command again"
        ) from None


def require_folder(study: Study, folder: Path) -> None:
    """Tie a study in a database to its folder when it begins, and compare when it goes on.

    Raises RunError where it was begun with another folder: its trials' locks and checkpoints are
    there, and without them two processes would train one trial.
    """
    path = folder / "study-id"
    recorded = study.user_attrs.get(_FOLDER)
    if recorded is None and not path.exists():
        files.write_text(path, secrets.token_hex(8) + "\n")
    own = path.read_text().strip() if path.exists() else ""
    if recorded is None:
        study.set_user_attr(_FOLDER, own)
    elif own != recorded:
        raise RunError(
            f"{folder} is not the folder that the study {study.study_name!r} was begun in, which "
            "holds its trials' locks and checkpoints; name that one with --folder (another "
            "machine has to share it), or begin another study with --study"
        )


def _parse(url: str) -> URL:
    """Return the URL, with a driver where PostgreSQL is named without one. Raises RunError."""
    try:
        database = make_url(url)
    except (ArgumentError, ValueError):
        raise RunError(f"{mask_address(url)} {_ADVICE}") from None
    if "@" in (database.host or ""):
        raise RunError(
            f"{mask_address(url)} holds an @ in its password; write it as %40, or leave the "
            "password out and put it into ~/.pgpass"
        )
    if database.drivername in _NAMES_OF_POSTGRESQL:
        return database.set(drivername=_DRIVER)
    return database


def _reason(problem: Exception) -> str:
    """The first line of what the database itself says."""
    cause = problem.__cause__ if isinstance(problem, StorageInternalError) else problem
    original = cause.orig if isinstance(cause, DBAPIError) else cause
    return mask_text(str(original).partition("\n")[0])
