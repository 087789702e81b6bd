"""Documents that must stay in step with the program."""

import json
import re

import pytest
from helpers import ROOT
from mien_edge.model.bundle import load_bundle
from mien_train import cli as train_cli

DOCUMENTS = [
    path
    for path in ROOT.rglob("*.md")
    if not set(path.parts) & {"node_modules", "runs"} and ".venv" not in str(path)
]
BUNDLES = sorted(
    path.parent for path in (ROOT / "models").glob("*/card.json") if not path.parent.is_symlink()
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(document):
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("room", ["edge", "train", "deploy", "systemd", "models"])
def test_every_room_says_what_it_is_for(room):
    assert len((ROOT / room / "README.md").read_text().splitlines()) > 10


def test_every_training_command_is_in_the_rooms_readme():
    text = (ROOT / "train" / "README.md").read_text()
    (actions,) = [
        a
        for a in train_cli.parser()._actions
        if isinstance(a, train_cli.argparse._SubParsersAction)
    ]
    for name in actions.choices:
        assert f"mien-train {name}" in text, name


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_every_committed_bundle_is_whole_and_in_the_table(folder):
    card = load_bundle(folder).card
    assert folder.name == card.id
    figures = card.metrics["networks"]["int8"]["test"]["fer2013"]
    table = (ROOT / "models" / "README.md").read_text()
    assert card.id in table
    assert f"{figures['accuracy']:.2%}".replace("%", " %") in table


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_no_card_names_a_place_on_the_machine_that_trained_it(folder):
    text = json.dumps(json.loads((folder / "card.json").read_text())["origin"])
    assert not re.search(r'"/(?:home|root|work|tmp|Users)', text)


def test_both_readmes_have_the_same_sections_and_figures():
    english, chinese = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-TW.md")
    )
    for pattern in (r"(?m)^## ", r"(?m)^\|"):
        assert len(re.findall(pattern, english)) == len(re.findall(pattern, chinese))
    tables = [re.findall(r"(?m)^\|.*", text) for text in (english, chinese)]
    for row, translated in zip(*tables, strict=True):
        assert re.findall(r"\d+\.\d+", row) == re.findall(r"\d+\.\d+", translated)


def test_both_readmes_name_the_same_commands():
    pattern = r"(?m)^ {4,}((?:mien-\w+|make|sudo /opt/mien/venv/bin/mien-edge) [^ #]+)"
    english, chinese = (
        set(re.findall(pattern, (ROOT / name).read_text(encoding="utf-8")))
        for name in ("README.md", "README.zh-TW.md")
    )
    assert english <= chinese
