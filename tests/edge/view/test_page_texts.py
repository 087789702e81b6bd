"""The page's texts: everything in both languages, also what devices, logs and cards say in English."""

import ast
import json
import re
import shutil
import subprocess
from importlib import resources

import pytest
from helpers import ROOT
from mien_edge.events import EventKind, Quality
from mien_edge.labels import LABELS
from mien_edge.status import health

LANGUAGES = {"en", "zh-TW"}
CHINESE = re.compile("[\u4e00-\u9fff]")
PAGE_SCRIPTS = ("page.js", "history.js", "picture.js")
CAMERA_STATES = ("starting", "ok", "lost", "paused", "ended")
LITERAL = (ast.Constant, ast.JoinedStr)
STAGES = ("detect", "track", "classify", "smooth")


def page_file(name):
    """The text of a file of the page."""
    return resources.files("mien_edge.view").joinpath(name).read_text(encoding="utf-8")


def table(name, opening, closing):
    """A table of texts.js, which is JSON between its brackets."""
    source = page_file("texts.js")
    body = re.search(rf"const {name} = \{opening}\n(.*?)\n\{closing};", source, re.S)[1]
    return json.loads(f"{opening}{body}{closing}")


def texts():
    return table("TEXTS", "{", "}")


def label_texts():
    return table("LABEL_TEXTS", "{", "}")


def sentences():
    return dict(table("SENTENCES", "[", "]"))


def matches(english):
    """Whether a sentence of the table covers this one; a field of it stands for anything."""
    patterns = (re.sub(r"\\\{\d\\\}", "(.+?)", re.escape(each)) for each in sentences())
    return any(re.fullmatch(pattern, english) for pattern in patterns)


def test_no_text_lacks_a_language():
    words_of = {**texts(), **label_texts()}
    lacking = [
        key for key, words in words_of.items() if set(words) != LANGUAGES or not all(words.values())
    ]
    assert lacking == []
    assert [english for english, own in sentences().items() if not CHINESE.search(own)] == []
    untranslated = [key for key, words in words_of.items() if not CHINESE.search(words["zh-TW"])]
    assert untranslated == ["of"], "a slash"


def test_a_translation_has_every_field_of_its_sentence():
    for english, own in sentences().items():
        fields = re.findall(r"\{\d\}", english)
        assert sorted(re.findall(r"\{\d\}", own)) == sorted(fields), english


def test_the_page_uses_no_text_that_is_not_in_the_table():
    used = set(re.findall(r'data-text="([\w-]+)"', page_file("page.html")))
    for name in PAGE_SCRIPTS:
        used |= set(re.findall(r'\b(?:text|createColumnHeader)\("(\w+)"', page_file(name)))
    reasons = re.findall(r'"((?:noPicture|waiting)[A-Z]\w+)"', page_file("page.js"))
    assert len(reasons) > 8
    assert (used | set(reasons)) - set(texts()) == set()


def test_every_word_that_devices_write_is_in_the_table():
    words = {*Quality, *EventKind, *CAMERA_STATES, *STAGES}
    words |= set(health._LIMITS.values())
    assert words - set(texts()) == set()
    assert {*LABELS, "contempt", "none"} == set(label_texts())
    assert label_texts()["contempt"]["zh-TW"] == "輕蔑"


def test_what_the_cards_of_the_repositorys_bundles_say_is_in_the_table():
    for path in ROOT.glob("models/*/card.json"):
        card = json.loads(path.read_text(encoding="utf-8"))
        said = [*card["intended"], *card["forbidden"], *card["limits"]]
        assert [sentence for sentence in said if not matches(sentence)] == [], path


def test_what_the_cards_of_new_bundles_say_is_in_the_table():
    source = (ROOT / "train/mien_train/results/export.py").read_text(encoding="utf-8")
    said = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and re.search(r"_USE|LIMITATIONS", ast.unparse(node)):
            said += ast.literal_eval(node.value)
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_limitations"):
            yielded = [each.value for each in ast.walk(node) if isinstance(each, ast.Yield)]
            said += [sample(each) for each in yielded if isinstance(each, LITERAL)]
    assert len(said) > 8
    assert [sentence for sentence in said if not matches(sentence)] == []


def event_sentences():
    """The sentences of events, with a word for each field, as the source writes them."""
    for path in (ROOT / "edge/mien_edge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or len(node.args) < 2:
                continue
            kind, words = node.args[-2:]
            is_kind = isinstance(kind, ast.Attribute) and ast.unparse(kind.value) == "EventKind"
            if is_kind and isinstance(words, ast.Constant | ast.JoinedStr):
                yield sample(words)


def sample(node):
    """The text of a literal, each field as 'x'."""
    if isinstance(node, ast.Constant):
        return node.value
    parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
    return "".join(parts)


def test_what_happens_to_a_device_is_in_the_table():
    said = set(event_sentences()) - {"x: x"}  # its parts are tried one by one
    assert len(said) >= 8
    assert [sentence for sentence in said if not matches(sentence)] == []


TRANSLATED = {
    "edge-3: the frame rate fell to 40 % of the last hour's; edge-2 runs again": (
        "edge-3：影格率降到前一小時的 40 %；edge-2 恢復執行"
    ),
    "the device has under-voltage, throttled now; see: mien-edge doctor": (
        "裝置目前電壓不足、降速；請看：mien-edge doctor"
    ),
    "no frame for 5 s": "5 秒沒有影格",
    "something that no table knows (yet)": "something that no table knows (yet)",
}


def test_a_sentence_is_translated_with_what_varies_in_it():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = "const { translate } = require(process.argv[1]);" + (
        "console.log(JSON.stringify(JSON.parse(process.argv[2]).map(translate)))"
    )
    path = str(resources.files("mien_edge.view").joinpath("texts.js"))
    command = [node, "-e", script, path, json.dumps(list(TRANSLATED))]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == list(TRANSLATED.values())
