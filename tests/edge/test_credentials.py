"""Secrets in files: who may read them, and how they are read."""

import os
import stat
from pathlib import Path

import pytest
from mien_edge import files
from mien_edge.cli import main
from mien_edge.commands import purpose
from mien_edge.credentials import exposed_files, read_secret
from mien_edge.errors import SettingsError
from mien_edge.settings import Settings, SourceSettings, ViewSettings, load_settings

URI = "rtsp://me:geheim@127.0.0.1:1/x"


def read(setting=""):
    return read_secret(str(setting), "camera-password", "the camera's password", SettingsError)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_comes_from_the_file_of_the_settings_else_from_the_credential(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert read() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read() is None, "a unit without this credential"
    (tmp_path / "camera-password").write_text("of the unit\n")
    (tmp_path / "file").write_text(" of the file ")
    assert read() == "of the unit"
    assert read(tmp_path / "file") == " of the file ", "blanks may belong to it"


@pytest.mark.parametrize("content", [b"p\xc3\xa4ss\n", b"\xef\xbb\xbfp\xc3\xa4ss\r\n"])
def test_a_secret_written_by_any_editor_is_read(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert read(tmp_path / "file") == "päss"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"p\xe4ss", "line 1 is not UTF-8"),
        (b"one\ntwo\n", "several lines"),
        (b"a\0b", "control characters"),
    ],
)
def test_a_secret_that_cannot_be_meant_is_refused_by_name_and_not_shown(tmp_path, content, reason):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SettingsError, match=f"{tmp_path}/file: .*{reason}") as refused:
        read(tmp_path / "file")
    assert "ss" not in str(refused.value).replace("password", "")
    assert "two" not in str(refused.value)


def test_a_file_that_the_settings_name_must_be_there(tmp_path):
    with pytest.raises(SettingsError, match="none: cannot be read"):
        read(tmp_path / "none")


def test_a_private_file_is_closed_to_others_whatever_the_umask_is(tmp_path):
    previous = os.umask(0)
    try:
        files.write_private(tmp_path / "a", "x", "no-such-group")
        os.umask(0o077)
        files.write_private(tmp_path / "b", "x", "no-such-group")
    finally:
        os.umask(previous)
    assert mode(tmp_path / "a") == 0o640
    assert mode(tmp_path / "b") == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_init_writes_settings_that_not_everybody_can_read(tmp_path):
    purpose.write_settings(tmp_path / "mien.toml", "private", URI)
    assert mode(tmp_path / "mien.toml") == 0o640
    assert load_settings(tmp_path / "mien.toml").source.uri == URI


@pytest.mark.parametrize(
    ("uri", "permissions", "is_exposed"),
    [
        (URI, 0o644, True),
        ("http://192.0.2.7/x?pwd=geheim", 0o644, True),
        (URI, 0o640, False),
        ("rtsp://192.0.2.7/x", 0o644, False),
        ("picamera", 0o644, False),
    ],
)
def test_settings_with_credentials_that_everybody_can_read_are_named_with_the_fix(
    tmp_path, uri, permissions, is_exposed
):
    path = tmp_path / "mien.toml"
    path.touch()
    path.chmod(permissions)
    exposures = list(exposed_files(Settings(source=SourceSettings(uri=uri)), path))
    assert bool(exposures) == is_exposed
    for text, fix in exposures:
        assert text.startswith(f"{path}: every user can read")
        assert fix == f"sudo chgrp mien {path} && sudo chmod 640 {path}"
        assert "geheim" not in text + fix


def test_each_file_with_a_secret_that_everybody_can_read_is_named(tmp_path):
    for name in ("camera", "token"):
        (tmp_path / name).touch(0o644)
        (tmp_path / name).chmod(0o644)
    settings = Settings(
        source=SourceSettings(password_file=f"{tmp_path}/camera"),
        view=ViewSettings(token_file=f"{tmp_path}/token"),
    )
    texts = [text for text, _ in exposed_files(settings, None)]
    assert [text.partition(":")[0] for text in texts] == [
        f"{tmp_path}/camera",
        f"{tmp_path}/token",
    ]


def test_the_start_warns_of_settings_with_credentials_that_everybody_can_read(tmp_path, caplog):
    path = tmp_path / "mien.toml"
    path.write_text(f'[source]\nuri = "{URI}"\nframe_timeout = 0.2\n')
    path.chmod(0o644)
    main(["run", "--settings", str(path), "--quiet"])
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "mien.run"]
    assert warning.startswith(f"{path}: every user can read the camera's credentials")
    assert "sudo chmod 640" in warning


def test_settings_are_printed_without_credentials_and_say_so(tmp_path, capsys):
    (tmp_path / "mien.toml").write_text(f'[source]\nuri = "{URI}"\n')
    assert main(["settings", "--settings", str(tmp_path / "mien.toml")]) == 0
    printed = capsys.readouterr()
    assert 'uri = "rtsp://127.0.0.1:1/x"' in printed.out
    assert "printed without its credentials" in printed.err
    assert "geheim" not in printed.out + printed.err


@pytest.mark.parametrize(
    "text",
    [
        '[source]\nuri = ["rtsp://me:geheim@192.0.2.7/x"]\n',
        '[source]\nuri = "demo"\n"rtsp://me:geheim@192.0.2.7/x" = 1\n',
        '[source]\nfps = "http://192.0.2.7/x?pwd=geheim"\n',
        '["rtsp://me:ge/heim@192.0.2.7/x"]\nuri = "demo"\n',
        'source = "rtsp://me:geheim@192.0.2.7/x"\n',
    ],
)
def test_an_error_in_the_settings_quotes_no_secret(tmp_path, capsys, text):
    (tmp_path / "mien.toml").write_text(text)
    assert main(["settings", "--settings", str(tmp_path / "mien.toml")]) == 1
    error = capsys.readouterr().err
    assert "heim" not in error
    assert "me:" not in error
    assert error.count("\n") == 1


def test_settings_that_one_may_not_read_say_what_to_do(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(
        SettingsError, match=r"mien\.toml: cannot be read \(Permission denied\); .* with sudo"
    ):
        load_settings(tmp_path / "mien.toml")
