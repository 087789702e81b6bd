"""Secrets come from files: a systemd credential of the unit, or a file that the settings name."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from mien_edge import paths, textfiles
from mien_edge.addresses import has_credentials
from mien_edge.errors import MienError
from mien_edge.settings import Settings

GROUP = "mien"
"""The group of all services, which may read the settings."""

_MAX_BYTES = 65_535  # of an MQTT password (MQTT 5, 3.1.3.6); a camera's is shorter

CAMERA = "camera-password"
"""The credential of mien.service with the camera's USER:PASSWORD, or password."""

BROKER = "mqtt-password"
"""The credential of mien-publish.service with the password of publish.username."""

PAGE = "view-token"
"""The credential of mien-view.service with the page's token."""


def read_secret(setting: str, credential: str, holds: str, error: type[MienError]) -> str | None:
    """Return the one line of a secret's file, without its end; None if there is no file.

    setting: the file that the settings name, which must exist then; empty for the credential.
    credential: the name in LoadCredential= of the unit.
    holds: what the file holds, for messages, as in "the broker's password".

    Raises `error`, which names the file, for one that cannot be read, holds several lines, or is no
    text (UTF-8, or UTF-16 with a byte order mark, as Windows writes it).
    """
    path = _secret_path(setting, credential)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as problem:
        reason = f"cannot be read ({problem.strerror})"
        raise error(f"{path}: {reason}; it has to hold {holds}") from None
    if len(content) > _MAX_BYTES:
        raise error(f"{path}: over {_MAX_BYTES} bytes; write nothing but {holds} into it")
    secret = textfiles.decode(content, str(path), error).rstrip("\n")
    if re.search(r"[\x00-\x1f\x7f]", secret):
        reason = "several lines, or control characters"
        raise error(f"{path}: {reason}; write {holds} on one line")
    return secret


def _secret_path(setting: str, credential: str) -> Path | None:
    if setting:
        return Path(setting)
    folder = paths.systemd_directory("CREDENTIALS_DIRECTORY")
    if folder is None:
        return None
    path = folder / credential
    return path if path.exists() else None


def exposed_files(settings: Settings, settings_file: Path | None) -> Iterator[tuple[str, str]]:
    """Yield each file with a secret that every user of this device can read.

    settings_file: where the settings come from; None for built-in ones.

    The pairs are what is wrong, and the command that mends it.
    """
    if settings_file and has_credentials(settings.source.uri) and _is_world_readable(settings_file):
        what = f"{settings_file}: every user can read the camera's credentials in source.uri"
        yield what, f"sudo chgrp {GROUP} {settings_file} && sudo chmod 640 {settings_file}"
    for name in (
        settings.source.password_file,
        settings.publish.password_file,
        settings.view.token_file,
    ):
        if name and _is_world_readable(Path(name)):
            yield f"{name}: every user can read the secret in it", f"sudo chmod o= {name}"


def _is_world_readable(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
