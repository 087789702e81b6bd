"""Settings: documented, ranged, and refused by name when wrong."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mien_edge import settings
from mien_edge.errors import SettingsError
from mien_edge.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FIELDS = [
    (stage.name, each)
    for stage in dataclasses.fields(Settings)
    for each in dataclasses.fields(getattr(Settings(), stage.name))
]


def test_no_file_gives_the_defaults():
    assert settings.load(None) == Settings() == settings.parse("")


def test_the_written_file_reads_back_equal():
    assert settings.parse(settings.as_toml(Settings())) == Settings()


def test_the_shipped_file_is_the_one_that_the_command_writes():
    assert (ROOT / "systemd" / "mien.toml").read_text() == settings.as_toml(Settings())


@pytest.mark.parametrize(("stage", "each"), FIELDS, ids=lambda value: getattr(value, "name", value))
def test_every_setting_is_explained_and_keeps_its_range(stage, each):
    assert each.metadata["text"]
    for name, step in (("low", -1), ("high", 1)):
        if each.metadata[name] is not None:
            wrong = each.metadata[name] + step
            value = float(wrong) if each.type is float else wrong
            with pytest.raises(SettingsError, match=f"{stage}: {each.name} must be"):
                settings.parse(f"[{stage}]\n{each.name} = {value}")


def test_a_misspelt_key_names_its_neighbour():
    with pytest.raises(SettingsError, match=r"detect: unknown key 'treshold'; did you mean 'threshold'"):
        settings.parse("[detect]\ntreshold = 0.5")


def test_a_wrong_type_is_named():
    with pytest.raises(SettingsError, match=r"detect.size must be of type int, not 'big'"):
        settings.parse('[detect]\nsize = "big"')


def test_broken_toml_names_the_file():
    with pytest.raises(SettingsError, match=r"mien.toml is not valid TOML"):
        settings.parse("[detect")


def test_a_missing_file_tells_how_to_write_one(tmp_path):
    with pytest.raises(SettingsError, match="write one with: mien-edge settings"):
        settings.load(tmp_path / "none.toml")


@given(
    fps=st.floats(0.1, 120), every=st.integers(1, 60),
    uri=st.text(st.characters(exclude_categories=["C"]), max_size=20), blur=st.booleans(),
)  # fmt: skip
def test_any_allowed_values_survive_the_file(fps, every, uri, blur):
    chosen = Settings(source=settings.Source(uri=uri, fps=fps), detect=settings.Detect(every=every, blur=blur))
    assert settings.parse(settings.as_toml(chosen)) == chosen


@given(st.text())
def test_any_text_is_settings_or_one_error(text):
    try:
        tomllib.loads(text)
        settings.parse(text)
    except (tomllib.TOMLDecodeError, SettingsError):
        pass
