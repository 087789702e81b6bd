"""The notice names the labels of the bundle that runs, in each language."""

import pytest
from mien_edge import cli
from mien_edge.commands.notice import LANGUAGES, write_notice
from mien_edge.labels import LABELS, MAX_COUNT
from mien_edge.settings import Settings


def notice(tmp_path, capsys, *options):
    path = tmp_path / "notice.html"
    assert cli.main(["notice", str(path), *options]) == 0
    capsys.readouterr()
    return path.read_text()


def test_the_notice_of_the_bundle_that_ships_names_the_seven(tmp_path, capsys):
    sentence = "one of seven labels: angry, disgust, fear, happy, sad, surprise, neutral. It judges"
    assert notice(tmp_path, capsys).count(sentence) == 2
    chinese = notice(tmp_path, capsys, "--language", "zh-TW")
    assert "估計七種標籤之一：生氣、厭惡、恐懼、快樂、悲傷、驚訝、平靜。它判斷" in chinese


def test_the_notice_names_the_labels_of_the_bundle_that_is_named(
    three_labels, eight_labels, tmp_path, capsys
):
    model = ["--model", str(three_labels.folder)]
    assert "one of three labels: happiness, sadness, other. It" in notice(tmp_path, capsys, *model)
    model = ["--model", str(eight_labels.folder), "--language", "zh-TW"]
    assert "八種標籤之一：生氣、厭惡、恐懼、快樂、悲傷、驚訝、平靜、輕蔑。" in notice(
        tmp_path, capsys, *model
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_notice_is_written_for_as_many_labels_as_a_bundle_may_have(tmp_path, language):
    for count in range(2, MAX_COUNT + 1):
        labels = [*LABELS, *(f"further-{index}" for index in range(9))][:count]
        write_notice(tmp_path / f"{count}.html", Settings(), language, "", labels)
    text = (tmp_path / f"{MAX_COUNT}.html").read_text()
    assert "further 8" in text
    assert "{" not in text.split("</style>")[1]
