"""What a device is used for: `mien-edge init` asks, and `mien-edge notice` informs those it sees.

The law: Regulation (EU) 2024/1689, Article 5(1)(f) forbids AI systems that infer emotions at work
and in education, medical and safety reasons excepted; Article 50(3) requires that people who are
exposed to emotion recognition are informed of it.
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
from mien_edge.credentials import GROUP
from mien_edge.errors import SettingsError
from mien_edge.settings import Settings, as_toml, load_settings

LAW = (
    "The EU AI Act forbids systems that infer emotions at work and in education, "
    "medical and safety reasons excepted (Article 5(1)(f)).",
    "It requires that people who are exposed to emotion recognition are informed of it "
    "(Article 50(3)); `mien-edge notice` makes a sheet to put up.",
)


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a device is used for.

    text: as people choose it.
    allowed: whether the law allows it.
    aggregate: whether only shares of groups may be published.
    """

    text: str
    allowed: bool = True
    aggregate: bool = False


PURPOSES = {
    "private": Purpose("at home, for myself and those who live there"),
    "research": Purpose("research, with the consent of those who take part"),
    "public": Purpose(
        "an exhibition, a shop window, a public place: only shares of groups are published",
        aggregate=True,
    ),
    "medical-safety": Purpose("a medical or a safety reason"),
    "work-school": Purpose("watching people at work or in education", allowed=False),
}

_MIN_FACES = 5  # in one frame, where only shares of groups may be published


def ask_purpose(stdin: TextIO = sys.stdin, stdout: TextIO = sys.stdout) -> str:
    """Ask for the purpose until the answer is one; returns its name in PURPOSES.

    Raises SettingsError at the end of the input.
    """
    names = list(PURPOSES)
    print(*LAW, "", "What is this device used for?", sep="\n", file=stdout)
    for number, name in enumerate(names, start=1):
        print(f"  {number}  {PURPOSES[name].text}", file=stdout)
    while True:
        print(f"1 to {len(names)}: ", end="", flush=True, file=stdout)
        line = stdin.readline()
        if not line:
            raise SettingsError(f"nobody answered; name it with --purpose: {', '.join(names)}")
        answer = line.strip()
        if answer.isdigit() and 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]


def write_settings(path: Path, name: str, source: str, force: bool = False) -> Settings:
    """Write a commented settings file for a purpose and return the settings.

    The file may be read by its owner and the services' group alone: it may hold credentials.

    name: of the purpose, in PURPOSES.
    source: the value of source.uri.
    force: whether to replace an existing file.

    Raises SettingsError for an unknown purpose or one that the law forbids, for an existing file,
    and for a file that cannot be written.
    """
    purpose = _allowed_purpose(name)
    if path.exists() and not force:
        advice = "add --force to replace it, or name another file with --output"
        raise SettingsError(f"{path}: is there already; {advice}")
    settings = _settings_for(purpose, source)
    comments = [f"Used for: {purpose.text}.", *LAW]
    header = "".join(f"# {comment}\n" for comment in comments)
    try:
        files.write_private(path, f"{header}#\n{as_toml(settings)}", GROUP)
    except OSError as problem:
        reason = f"cannot be written ({problem.strerror})"
        raise SettingsError(f"{path}: {reason}; run it with sudo") from None
    return settings


def _allowed_purpose(name: str) -> Purpose:
    """Return the purpose of that name. Raises SettingsError for none and for a forbidden one."""
    if name not in PURPOSES:
        raise SettingsError(f"unknown purpose {name!r}; choose one of {', '.join(PURPOSES)}")
    purpose = PURPOSES[name]
    if not purpose.allowed:
        advice = "if it is for such a reason: --purpose medical-safety"
        raise SettingsError(f"{LAW[0]} mien is not for that; {advice}")
    return purpose


def _settings_for(purpose: Purpose, uri: str) -> Settings:
    defaults = Settings()
    source = dataclasses.replace(defaults.source, uri=uri)
    publish = defaults.publish
    if purpose.aggregate:
        publish = dataclasses.replace(publish, aggregate=True, min_faces=_MIN_FACES)
    return dataclasses.replace(defaults, source=source, publish=publish)


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of the notice in one language.

    storage: what is stored, for {days} and {months}.
    purpose, operator, contact: the names of lines that are filled in.
    """

    title: str
    body: str
    storage: str
    purpose: str
    operator: str
    contact: str
    law: str


_WORDINGS = {
    "en": Wording(
        title="A camera here estimates facial expressions",
        body="A small computer looks for faces and estimates, from the expression, one of seven "
        "labels: angry, disgust, fear, happy, sad, surprise, neutral. It judges how a face looks, "
        "not what a person feels, and it is often wrong.",
        storage="Pictures are not stored and do not leave the device. Labels with a time are kept "
        "for {days} days, sums per minute for {months} months.",
        purpose="It is used for",
        operator="Responsible",
        contact="Questions, objection, deletion",
        law="This notice is given under Article 50(3) of Regulation (EU) 2024/1689.",
    ),
    "zh-TW": Wording(
        title="此處的攝影機會估計臉部表情",
        body="一台小型電腦會尋找人臉，並依表情估計七種標籤之一：生氣、厭惡、恐懼、快樂、悲傷、驚訝、平靜。"
        "它判斷的是臉看起來的樣子，不是人的感受，而且經常出錯。",
        storage="影像不會被儲存，也不會離開裝置。"
        "帶時間的標籤保留 {days} 天，每分鐘的統計保留 {months} 個月。",
        purpose="用途",
        operator="負責人",
        contact="詢問、反對、刪除",
        law="本告示依歐盟規則 (EU) 2024/1689 第 50 條第 3 項提供。",
    ),
}
LANGUAGES = tuple(_WORDINGS)

_DAYS_PER_MONTH = 30.4

_PAGE = """<!doctype html>
<html lang="{language}"><meta charset="utf-8"><title>{title}</title>
<style>
@page {{ size: A4; margin: 20mm }}
body {{ font: 20pt/1.5 system-ui, "Noto Sans", "Noto Sans CJK TC", sans-serif; color: #111 }}
body {{ max-width: 170mm; margin: 20mm auto }}
h1 {{ font-size: 36pt; line-height: 1.15; margin: 0 0 12mm }}
svg {{ width: 36mm; height: 36mm; display: block; margin-bottom: 10mm }}
dt {{ font-weight: 700; margin-top: 6mm }}
dd {{ margin: 0; border-bottom: 1px solid #999; min-height: 1.5em }}
small {{ display: block; margin-top: 14mm; font-size: 12pt; color: #444 }}
</style>
<svg viewBox="0 0 36 36" fill="none" stroke="#111" stroke-width="2" aria-hidden="true">
<rect x="2" y="8" width="32" height="22" rx="3"/>
<path d="M12 8l3-4h6l3 4"/>
<circle cx="18" cy="19" r="7"/>
<path d="M15 21q3 3 6 0" stroke-linecap="round"/>
<path d="M15.5 17v.5M20.5 17v.5" stroke-linecap="round"/>
</svg>
<h1>{title}</h1>
<p>{body}</p>
<p>{storage}</p>
<dl><dt>{purpose}</dt><dd>{purpose_text}</dd><dt>{operator}</dt><dd>{operator_text}</dd>
<dt>{contact}</dt><dd>{contact_text}</dd></dl>
<small>{law}</small>
</html>
"""


def write_notice(
    path: Path,
    settings: Settings,
    language: str,
    purpose: str,
    operator: str,
    contact: str,
) -> None:
    """Write a printable sheet (HTML, A4) for the people that the camera sees.

    settings: say for how long readings are stored.
    language: one of LANGUAGES.
    purpose, operator, contact: what the device is used for, who is responsible, and where people
    can ask; plain text, '' for a line to fill in by hand.

    Raises SettingsError if the file cannot be written.
    """
    wording = _WORDINGS[language]
    storage = wording.storage.format(
        days=f"{settings.log.max_days:g}",
        months=f"{settings.log.max_summary_days / _DAYS_PER_MONTH:.0f}",
    )
    texts = dataclasses.asdict(wording)
    texts["storage"] = storage
    texts["purpose_text"] = purpose
    texts["operator_text"] = operator
    texts["contact_text"] = contact
    escaped = {name: html.escape(text) for name, text in texts.items()}
    page = _PAGE.format(language=language, **escaped)
    try:
        files.write_text(path, page)
    except OSError as problem:
        reason = f"cannot be written ({problem.strerror})"
        raise SettingsError(f"{path}: {reason}; name another file") from None


def configure_init(parser: argparse.ArgumentParser) -> None:
    """Add the options of `init`."""
    parser.add_argument(
        "--purpose", choices=PURPOSES, help="the purpose; without it, mien-edge asks"
    )
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
    purpose = options.purpose or ask_purpose()
    write_settings(options.output, purpose, options.source, options.force)
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
    write_notice(
        options.output,
        settings,
        options.language,
        options.purpose,
        options.operator,
        options.contact,
    )
    print(f"written: {options.output}; open it in a browser and print it")  # noqa: T201
