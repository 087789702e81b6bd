"""Settings: documented, ranged, and refused by name when wrong."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mien_edge import settings
from mien_edge.errors import SettingsError
from mien_edge.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
OLD_FILE = Path(__file__).with_name("mien-old.toml")
"""The file that the version before the new names shipped."""
FIELDS = [
    (table.name, setting)
    for table in dataclasses.fields(Settings)
    for setting in dataclasses.fields(getattr(Settings(), table.name))
]


def test_no_file_gives_the_defaults():
    assert settings.load_settings(None) == Settings() == settings.parse_settings("")


def test_the_written_file_reads_back_equal():
    assert settings.parse_settings(settings.as_toml(Settings())) == Settings()


def test_the_shipped_file_is_the_one_that_the_command_writes():
    assert (ROOT / "systemd" / "mien.toml").read_text() == settings.as_toml(Settings())


@pytest.mark.parametrize(
    ("table", "setting"), FIELDS, ids=lambda value: getattr(value, "name", value)
)
def test_every_setting_is_explained_and_keeps_its_range(table, setting):
    assert setting.metadata["text"]
    for name, step in (("low", -1), ("high", 1)):
        if setting.metadata[name] is not None:
            wrong = setting.metadata[name] + step
            value = float(wrong) if setting.type is float else wrong
            with pytest.raises(SettingsError, match=f"{table}: {setting.name} must be"):
                settings.parse_settings(f"[{table}]\n{setting.name} = {value}")


def test_large_ranges_are_written_as_integers():
    assert "(100 to 100000000)" in settings.as_toml(Settings())


@pytest.mark.parametrize(("old", "new"), settings.RENAMED.items())
def test_an_old_name_gets_one_line_with_the_new_one_which_is_known(old, new):
    table, _, key = old.strip("[]").partition(".")
    text = f"[{table}]\n{key} = 1" if key else f"[{table}]"
    with pytest.raises(SettingsError, match=re.escape(f"{old} is now {new}")) as refused:
        settings.parse_settings(text)
    assert "\n" not in str(refused.value)
    table, _, key = new.strip("[]").partition(".")
    assert not key or key in {setting.name for name, setting in FIELDS if name == table}
    assert hasattr(Settings(), table)


def test_one_old_key_is_named_with_the_file():
    with pytest.raises(SettingsError) as refused:
        settings.parse_settings("[source]\npatience = 3.0")
    assert str(refused.value) == "mien.toml: source.patience is now source.frame_timeout; rename it"


def test_a_key_that_counts_something_else_now_is_named_with_its_unit():
    with pytest.raises(SettingsError) as refused:
        settings.parse_settings("[detect]\ninterval_frames = 1")
    advice = "detect.interval_frames is now detect.interval, in seconds; rename it"
    assert str(refused.value) == f"mien.toml: {advice}"


def test_a_number_of_faces_at_aggregate_is_told_its_two_keys():
    with pytest.raises(SettingsError, match="write aggregate = true and min_faces = 3"):
        settings.parse_settings("[publish]\naggregate = 3")
    with pytest.raises(SettingsError, match="write aggregate = false"):
        settings.parse_settings("[publish]\naggregate = 0")


def test_a_whole_old_file_is_told_all_it_needs_in_one_line_and_then_reads():
    text = OLD_FILE.read_text()
    with pytest.raises(SettingsError) as refused:
        settings.parse_settings(text)
    advice = str(refused.value)
    assert "\n" not in advice
    old_content = tomllib.loads(text)
    names = [f"[{table}]" for table in old_content]
    names += [f"{table}.{key}" for table, keys in old_content.items() for key in keys]
    changed = [name for name in names if name in settings.RENAMED]
    assert set(settings.RENAMED) - set(changed) == {"throttle.slowest", "detect.interval_frames"}
    new_content = {table: dict(keys) for table, keys in old_content.items()}
    for old in changed:
        new = settings.RENAMED[old]
        assert f"{old} is now {new}" in advice
        if old.startswith("["):
            new_content[new.strip("[]")] = new_content.pop(old.strip("[]"))
    for old in changed:
        if not old.startswith("["):
            table, key = settings.RENAMED[old].split(".")
            new_content[table][key] = new_content[table].pop(old.split(".")[1])
    new_content["publish"]["aggregate"] = False
    new_content["detect"]["interval"] = 0.5
    lines = [
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        for table, keys in new_content.items()
    ]
    assert settings.parse_settings("".join(lines)) == Settings()


def test_a_misspelt_key_names_its_neighbour():
    with pytest.raises(
        SettingsError, match=r"detect: unknown key 'min_scor'; did you mean 'min_score'"
    ):
        settings.parse_settings("[detect]\nmin_scor = 0.5")


def test_a_wrong_type_is_named():
    with pytest.raises(SettingsError, match=r"detect.size must be of type int, not 'big'"):
        settings.parse_settings('[detect]\nsize = "big"')


def test_broken_toml_names_the_file():
    with pytest.raises(SettingsError, match=r"mien.toml is not valid TOML"):
        settings.parse_settings("[detect")


def test_a_missing_file_tells_how_to_write_one(tmp_path):
    with pytest.raises(SettingsError, match="write one with: mien-edge settings"):
        settings.load_settings(tmp_path / "none.toml")


@given(
    fps=st.floats(0.1, 120), interval=st.floats(0, 2),
    uri=st.text(st.characters(exclude_categories=["C"]), max_size=20), blur=st.booleans(),
)  # fmt: skip
def test_any_allowed_values_survive_the_file(fps, interval, uri, blur):
    source = settings.SourceSettings(uri=uri, fps=fps)
    detect = settings.DetectSettings(interval=interval, blur=blur)
    changed = Settings(source=source, detect=detect)
    assert settings.parse_settings(settings.as_toml(changed)) == changed


@given(st.text())
def test_any_text_is_settings_or_one_error(text):
    try:
        tomllib.loads(text)
        settings.parse_settings(text)
    except (tomllib.TOMLDecodeError, SettingsError):
        pass


@pytest.mark.parametrize("key", ["device", "discovery", "topic"])
@pytest.mark.parametrize(
    "value",
    [
        "a/#",
        "+",
        "a\0b",
        "a\nb",
        "a\x85b",
        "a\uffff",
        "/a",
        "a/",
        "a//b",
        "$SYS",
        "x" * 129,
        "房" * 43,
    ],
    ids=ascii,
)
def test_a_topic_that_no_broker_takes_is_refused_by_its_key(key, value):
    text = f"[publish]\n{key} = {json.dumps(value)}"
    with pytest.raises(SettingsError, match=rf"publish: {key} is .*; .+") as refused:
        settings.parse_settings(text)
    assert len(str(refused.value)) < 250
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("key", ["host", "username", "password_file", "ca"])
@pytest.mark.parametrize("value", ["a\0b", "a\nb", "x" * 70_000], ids=["nul", "newline", "long"])
def test_an_address_a_name_or_a_path_that_cannot_be_is_refused_by_its_key(key, value):
    with pytest.raises(SettingsError, match=rf"publish: {key} is ") as refused:
        settings.parse_settings(f"[publish]\n{key} = {json.dumps(value)}")
    assert len(str(refused.value)) < 250


def test_a_surrogate_in_a_topic_is_refused():
    with pytest.raises(ValueError, match=r"U\+D800"):
        settings.PublishSettings(device="a\ud800")


@pytest.mark.parametrize("value", ["廚房", "cam 1", "cam/1", "Büro", "a.b", "x" * 128, "🙂"])
def test_every_other_name_is_one(value):
    assert settings.PublishSettings(device=value, topic=value, discovery=value).device == value


def test_no_topic_at_all_is_refused():
    with pytest.raises(SettingsError, match="publish: topic is ''"):
        settings.parse_settings('[publish]\ntopic = ""')
