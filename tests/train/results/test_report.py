"""Pages: report.html of a run and the audit's; what they begin with, and whether they fit."""

import dataclasses
import json
import re

import numpy as np
import pytest
from mien_train import html, metrics, plots
from mien_train.data import audit
from mien_train.data.source import DataSource
from mien_train.results.evaluation import Evaluation, read_evaluation
from mien_train.results.report import verdict


@pytest.fixture
def report(tiny_run):
    return (tiny_run / "report.html").read_text()


@pytest.fixture
def audit_page(voted):
    dataset = DataSource(voted, voted.parent / "fer2013new.csv").dataset
    return audit.as_html(audit.audit(dataset), dataset)


def headings(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_a_report_begins_with_what_it_is_its_best_figures_and_a_verdict(report):
    assert headings(report)[0] == "Summary"
    summary = report[: report.index("<h2>Predicts")]
    assert re.search(r"accuracy</td><td>\d+\.\d\d%", summary)
    assert "<h3>Verdict</h3><ul><li>" in summary


def test_json_stands_behind_a_click_only(report):
    closed = re.sub(r"<details>.*?</details>", "", report, flags=re.DOTALL)
    assert "&quot;learning_rate&quot;" not in closed
    assert "learning rate</td><td>0.002</td><td>0.0001</td>" in closed
    assert "&quot;learning_rate&quot;" in report


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_a_desk_and_a_phone(report, audit_page, chromium, tmp_path, width):
    for page in (report, audit_page):
        (tmp_path / "page.html").write_text(page)
        view = chromium.new_page(viewport={"width": width, "height": 900})
        view.goto((tmp_path / "page.html").as_uri())
        assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
        cut = "figcaption, .facts td, .note, h1, h2, h3, summary"
        fits = "[...document.querySelectorAll(cut)].filter(e => e.scrollWidth > e.clientWidth + 1)"
        assert view.evaluate(f"(cut) => {fits}.map(e => e.textContent)", cut) == []
        view.close()


def test_an_audit_begins_with_its_summary_and_each_picture_has_its_own_caption(audit_page):
    assert headings(audit_page)[0] == "Summary"
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", audit_page, re.DOTALL)
    assert audit_page.count("<img") == len(captions)
    assert all(re.match(r"row \d+\n\w+", caption) for caption in captions)


def evaluation_with(tiny_run, int8, floating):
    """The tiny run's evaluation with other figures of its two networks."""
    evaluation = read_evaluation(tiny_run, "fer2013")
    networks = dict(evaluation.networks)
    for name, changes in (("int8", int8), ("float", floating)):
        network = networks[name]
        metrics = dataclasses.replace(network.test["fer2013"], **changes)
        networks[name] = dataclasses.replace(network, test={"fer2013": metrics})
    return dataclasses.replace(evaluation, networks=networks)


def test_a_verdict_says_what_is_good_and_what_is_not(tiny_run):
    poor = evaluation_with(tiny_run, {"accuracy": 0.15}, {"accuracy": 0.9})
    assert "learnt next to nothing" in " ".join(verdict(poor))
    good = {"accuracy": 0.7, "calibration_error": 0.02}
    sentences = " ".join(verdict(evaluation_with(tiny_run, good, {"accuracy": 0.701})))
    assert "70.0% are right where the commonest label alone would be right for 14.3%" in sentences
    assert "int8 keeps what the float network has (-0.1 points)" in sentences
    bad = {"accuracy": 0.7, "calibration_error": 0.2}
    sentences = " ".join(verdict(evaluation_with(tiny_run, bad, {"accuracy": 0.75})))
    assert "int8 loses 5.0 points" in sentences
    assert "do not take them for probabilities" in sentences


@pytest.mark.parametrize("count", [3, 8, 16])
def test_a_report_of_any_labels_names_each_of_them(tiny_run, count):
    names = tuple(f"label-{index}" for index in range(count))
    rng = np.random.default_rng(count)
    score = metrics.classification_metrics(
        rng.normal(0, 1, (200, count)), rng.integers(0, count, 200), 1.0, names
    )
    base = evaluation_with(tiny_run, {}, {})
    networks = {
        name: dataclasses.replace(network, test={"labels": score}, validation={"labels": score})
        for name, network in base.networks.items()
    }
    measured = dataclasses.replace(
        base,
        head="labels",
        labels=names,
        networks=networks,
        target_accuracy={"labels": 0.9},
        calibration=None,
    )
    again = Evaluation.from_json(json.loads(json.dumps(measured.to_json())), "card")
    assert again == measured
    assert next(verdict(again)).startswith("labels of the data: ")
    assert "right by the data's labels on validation rows" in again.threshold_as_text()
    matrix = plots.confusion({"int8": score.confusion}, names)
    assert matrix.startswith(b"\x89PNG")
    assert list(score.recall) == list(names)


def test_what_others_wrote_is_text_in_a_page():
    hostile = "<script>alert(1)</script>"
    parts = [
        html.facts([(hostile, hostile)]),
        html.bullets([hostile]),
        html.details(hostile, ""),
        html.gallery([(b"", hostile)]),
        html.subheading(hostile),
    ]
    assert hostile not in html.page(hostile, parts)
