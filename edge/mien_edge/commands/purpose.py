"""What a device is used for: `mien-edge init` asks, and `mien-edge notice` tells the people it sees.

The law: Regulation (EU) 2024/1689, Article 5(1)(f) forbids AI systems that infer emotions at work and in education,
medical and safety reasons excepted; Article 50(3) asks that people exposed to emotion recognition be told.
"""

import argparse
import dataclasses
import html
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mien_edge import files, paths
from mien_edge.commands.common import settings_option
from mien_edge.errors import SettingsError
from mien_edge.settings import Settings, as_toml, load_settings

LAW = (
    "The EU AI Act forbids systems that infer emotions at work and in education, medical and safety reasons excepted "
    "(Article 5(1)(f)).",
    "It requires that people who are exposed to emotion recognition are informed of it (Article 50(3)); "
    "`mien-edge notice` makes a sheet to put up.",
)


@dataclass(frozen=True, slots=True)
class Purpose:
    """A use: `text` as people choose it, whether it is `allowed`, and whether only shares of groups may leave it."""

    text: str
    allowed: bool = True
    aggregate: bool = False


_MIN_FACES = 5  # in one frame, where only shares of groups may be published

PURPOSES = {
    "private": Purpose("at home, for myself and those who live there"),
    "research": Purpose("research, with the consent of those who take part"),
    "public": Purpose(
        "an exhibition, a shop window, a public place: only shares of groups are published", aggregate=True
    ),
    "medical-safety": Purpose("a medical or a safety reason"),
    "work-school": Purpose("watching people at work or in education", allowed=False),
}


def ask(read: TextIO = sys.stdin, write: TextIO = sys.stdout) -> str:
    """Ask for the purpose until the answer is one. Raises SettingsError where nobody answers."""
    names = list(PURPOSES)
    print(*LAW, "", "What is this device used for?", sep="\n", file=write)
    for number, name in enumerate(names, 1):
        print(f"  {number}  {PURPOSES[name].text}", file=write)
    while True:
        print(f"1 to {len(names)}: ", end="", flush=True, file=write)
        answer = read.readline()
        if not answer:
            raise SettingsError(f"nobody answered; name it with --purpose: {', '.join(names)}")
        if answer.strip().isdigit() and 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]


def write(path: Path, name: str, source: str, force: bool = False) -> Settings:
    """Write a commented settings file for the purpose. Raises SettingsError for a purpose that the law forbids, an
    unknown one, and a file that is there already.
    """
    if name not in PURPOSES:
        raise SettingsError(f"unknown purpose {name!r}; choose one of {', '.join(PURPOSES)}")
    purpose = PURPOSES[name]
    if not purpose.allowed:
        raise SettingsError(f"{LAW[0]} mien is not for that; if it is for such a reason: --purpose medical-safety")
    if path.exists() and not force:
        raise SettingsError(f"{path}: is there already; add --force to replace it, or name another file with --output")
    plain = Settings()
    publish = plain.publish
    if purpose.aggregate:
        publish = dataclasses.replace(publish, aggregate=True, min_faces=_MIN_FACES)
    source_settings = dataclasses.replace(plain.source, uri=source)
    chosen = dataclasses.replace(plain, source=source_settings, publish=publish)
    head = [f"# Used for: {purpose.text}.", *(f"# {sentence}" for sentence in LAW), "#"]
    try:
        files.write_text(path, "\n".join(head) + "\n" + as_toml(chosen))
    except OSError as problem:
        raise SettingsError(f"{path}: cannot be written ({problem.strerror}); run it with sudo") from None
    return chosen


_NOTICE = {
    "en": {
        "title": "A camera here estimates facial expressions",
        "body": "A small computer looks for faces and estimates, from the expression, one of seven labels: angry, "
        "disgust, fear, happy, sad, surprise, neutral. It judges how a face looks, not what a person feels, and it is "
        "often wrong.",
        "kept": "Pictures are not stored and do not leave the device. Labels with a time are kept for {days} days, "
        "sums per minute for {months} months.",
        "purpose": "It is used for",
        "operator": "Responsible",
        "contact": "Questions, objection, deletion",
        "law": "This notice is given under Article 50(3) of Regulation (EU) 2024/1689.",
    },
    "zh-TW": {
        "title": "此處的攝影機會估計臉部表情",
        "body": "一台小型電腦會尋找人臉，並依表情估計七種標籤之一：生氣、厭惡、恐懼、快樂、悲傷、驚訝、平靜。"
        "它判斷的是臉看起來的樣子，不是人的感受，而且經常出錯。",
        "kept": "影像不會被儲存，也不會離開裝置。帶時間的標籤保留 {days} 天，每分鐘的統計保留 {months} 個月。",
        "purpose": "用途",
        "operator": "負責人",
        "contact": "詢問、反對、刪除",
        "law": "本告示依歐盟規則 (EU) 2024/1689 第 50 條第 3 項提供。",
    },
}
LANGUAGES = tuple(_NOTICE)

_PAGE = """<!doctype html>
<html lang="{language}"><meta charset="utf-8"><title>{title}</title>
<style>
@page {{ size: A4; margin: 20mm }}
body {{ font: 20pt/1.5 system-ui, "Noto Sans", "Noto Sans CJK TC", sans-serif; color: #111 }}
body {{ max-width: 170mm; margin: 20mm auto }}
h1 {{ font-size: 36pt; line-height: 1.15; margin: 0 0 12mm }}
svg {{ width: 36mm; height: 36mm; display: block; margin-bottom: 10mm }}
dt {{ font-weight: 700; margin-top: 6mm }} dd {{ margin: 0; border-bottom: 1px solid #999; min-height: 1.5em }}
small {{ display: block; margin-top: 14mm; font-size: 12pt; color: #444 }}
</style>
<svg viewBox="0 0 36 36" fill="none" stroke="#111" stroke-width="2" aria-hidden="true">
<rect x="2" y="8" width="32" height="22" rx="3"/><path d="M12 8l3-4h6l3 4"/><circle cx="18" cy="19" r="7"/>
<path d="M15 21q3 3 6 0" stroke-linecap="round"/><path d="M15.5 17v.5M20.5 17v.5" stroke-linecap="round"/></svg>
<h1>{title}</h1>
<p>{body}</p>
<p>{kept}</p>
<dl><dt>{purpose}</dt><dd>{purpose_text}</dd><dt>{operator}</dt><dd>{operator_text}</dd>
<dt>{contact}</dt><dd>{contact_text}</dd></dl>
<small>{law}</small>
</html>
"""


def notice(path: Path, settings: Settings, language: str, purpose: str, operator: str, contact: str) -> None:
    """Write a printable sheet (HTML, A4) for the people that the camera sees; what is empty is left to be written by
    hand. Raises SettingsError if it cannot be written.
    """
    words = {name: html.escape(text) for name, text in _NOTICE[language].items()}
    words["kept"] = words["kept"].format(
        days=f"{settings.log.max_days:g}", months=f"{settings.log.max_summary_days / 30.4:.0f}"
    )
    given = {"purpose_text": purpose, "operator_text": operator, "contact_text": contact}
    try:
        files.write_text(
            path, _PAGE.format(language=language, **words, **{k: html.escape(v) for k, v in given.items()})
        )
    except OSError as problem:
        raise SettingsError(f"{path}: cannot be written ({problem.strerror}); name another file") from None


def configure_init(parser: argparse.ArgumentParser) -> None:
    """Add the options of `init`."""
    parser.add_argument("--purpose", choices=PURPOSES, help="the purpose; without it, mien-edge asks")
    parser.add_argument(
        "--source",
        default="picamera",
        metavar="URI",
        help="where frames come from (default: picamera)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=paths.SETTINGS,
        metavar="FILE",
        help=f"file to write (default: {paths.SETTINGS})",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.set_defaults(run=_init)


def _init(options: argparse.Namespace) -> None:
    purpose = options.purpose or ask()
    write(options.output, purpose, options.source, options.force)
    next_step = f"mien-edge doctor --settings {options.output}"
    print(f"written: {options.output}; next: {next_step}")  # noqa: T201


def configure_notice(parser: argparse.ArgumentParser) -> None:
    """Add the options of `notice`."""
    parser.add_argument("output", type=Path, help=".html file to write")
    parser.add_argument(
        "--language",
        choices=LANGUAGES,
        default="en",
        help="language of the notice (default: en)",
    )
    parser.add_argument("--purpose", default="", metavar="TEXT", help="what the device is used for")
    parser.add_argument("--operator", default="", metavar="TEXT", help="who is responsible")
    parser.add_argument("--contact", default="", metavar="TEXT", help="where people can ask")
    settings_option(parser)
    parser.set_defaults(run=_notice)


def _notice(options: argparse.Namespace) -> None:
    settings = load_settings(options.settings)
    notice(
        options.output,
        settings,
        options.language,
        options.purpose,
        options.operator,
        options.contact,
    )
    print(f"written: {options.output}; open it in a browser and print it")  # noqa: T201
