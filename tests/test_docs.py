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


def structure(name):
    """What the two languages of the README must have in common, section by section."""
    text = (ROOT / name).read_text()
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return [
        {
            "level": re.findall(r"^#+", section)[:1],
            "commands": [
                re.split(r"\s+#", line)[0].replace("--language zh-TW", "--language en")
                for line in re.findall(r"^    (\S.*)$", section, re.MULTILINE)
            ],
            "bold": section.count("**") // 2,
            "items": len(re.findall(r"^- ", section, re.MULTILINE)),
            "code": sorted(set(re.findall(r"`([^`]+)`", re.sub(r"\s+", " ", section)))),
            "links": sorted(set(re.findall(r"\]\(([^)]+)\)", section)) - {name, *READMES}),
            "figures": [
                sorted(re.findall(r"\d[\d,.]*\d|\d", row))
                for row in re.findall(r"^\|.*$", section, re.MULTILINE)
            ],
        }
        for section in sections
    ]


READMES = ("README.md", "README.zh-TW.md")


def test_the_readme_in_chinese_says_what_the_english_one_says():
    english, chinese = (structure(name) for name in READMES)
    assert len(chinese) == len(english)
    for there, here in zip(english, chinese, strict=True):
        assert here == there


@pytest.mark.parametrize("date", ["2025-2-2", "2026-8-2", "2027-12-2"])
def test_both_readmes_have_the_dates_of_the_law(date):
    year, month, day = date.split("-")
    name = {"2": "February", "8": "August", "12": "December"}[month]
    assert f"{day} {name} {year}" in (ROOT / READMES[0]).read_text()
    assert f"{year} 年 {month} 月 {day} 日" in (ROOT / READMES[1]).read_text()


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
