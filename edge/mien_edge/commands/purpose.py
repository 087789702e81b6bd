"""What a device is used for: `mien-edge init` and `mien-deploy setup` ask, and write settings."""

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mien_edge import files, paths
from mien_edge.credentials import GROUP
from mien_edge.errors import SettingsError
from mien_edge.settings import Settings, UseSettings, as_toml

LAW = (
    "The law as of November 2026; this is no legal advice.",
    "Article 5(1)(f) of Regulation (EU) 2024/1689, the AI Act, forbids AI that infers emotions at "
    "work and in education, medical and safety reasons excepted; it applies since 2 February 2025. "
    "So a camera in a public place must not watch those who work there.",
    "Article 50(3) requires that people who are exposed to emotion recognition are informed; it "
    "applies since 2 August 2026. `mien-edge notice` writes that notice.",
    "Emotion recognition that is not forbidden is high-risk (Annex III, 1(c)); those duties are "
    "postponed to 2 December 2027 (Digital Omnibus).",
    "Open source is exempt from none of these (Article 2(12)).",
    "The GDPR requires a legal basis (Article 6, and Article 9 where faces identify people), a "
    "notice in two layers (EDPB Guidelines 3/2019), and mostly an impact assessment "
    "(Article 35).",
)
"""What applies in the European Union, a sentence or two each; sources: the regulations named."""

_PROHIBITION = LAW[1]


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a device is used for.

    text: as people choose it.
    allowed: whether the law allows it.
    """

    text: str
    allowed: bool = True


PURPOSES = {
    "private": Purpose("at home, for myself and those who live there"),
    "research": Purpose("research, with the consent of those who take part"),
    "public": Purpose(
        "an exhibition, a shop window, a public place: only sums per minute of groups are kept"
    ),
    "medical-safety": Purpose("a medical or a safety reason"),
    "work-school": Purpose("watching people at work or in education", allowed=False),
}

_QUESTIONS = {
    "operator": "Who is responsible for it?",
    "contact": "Where can people ask, object, and have what is theirs deleted?",
    "legal_basis": "Which legal basis in the GDPR, such as consent, Article 6(1)(a)?",
}


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


def ask_use(name: str, stdin: TextIO = sys.stdin, stdout: TextIO = sys.stdout) -> UseSettings:
    """Ask for what the notice says, a line each; returns it with the purpose `name`.

    An empty line, or the end of the input, leaves a blank in the notice.
    """
    _allowed_purpose(name)
    print("For the notice; leave a line empty to write it by hand.", file=stdout)
    answers = {}
    for key, question in _QUESTIONS.items():
        print(f"{question} ", end="", flush=True, file=stdout)
        answers[key] = stdin.readline().strip()
    return stated_use(UseSettings(), name, **answers)


def stated_use(use: UseSettings, name: str, **answers: str) -> UseSettings:
    """Return `use` with the purpose `name` and these answers.

    Raises SettingsError for an unknown purpose and for one that the law forbids.
    """
    _allowed_purpose(name)
    return dataclasses.replace(use, purpose=name, **answers)  # type: ignore[arg-type]


def new_settings(use: UseSettings, uri: str) -> Settings:
    """Return the settings of a device that is used so.

    uri: the value of source.uri.
    """
    defaults = Settings()
    source = dataclasses.replace(defaults.source, uri=uri)
    return dataclasses.replace(defaults, use=use, source=source)


def as_commented_toml(settings: Settings) -> str:
    """Return settings as a TOML file that begins with the purpose and the law."""
    purpose = PURPOSES[settings.use.purpose]
    comments = [f"Used for: {purpose.text}.", *LAW]
    header = "".join(f"# {comment}\n" for comment in comments)
    return f"{header}#\n{as_toml(settings)}"


def write_settings(path: Path, settings: Settings, force: bool = False) -> None:
    """Write a commented settings file.

    The file may be read by its owner and the services' group alone: it may hold credentials.

    settings: with a purpose.
    force: whether to replace an existing file.

    Raises SettingsError for an existing file, and for a file that cannot be written.
    """
    if path.exists() and not force:
        advice = "add --force to replace it, or name another file with --output"
        raise SettingsError(f"{path}: is there already; {advice}")
    try:
        files.write_private(path, as_commented_toml(settings), GROUP)
    except OSError as problem:
        reason = f"cannot be written ({problem.strerror})"
        raise SettingsError(f"{path}: {reason}; run it with sudo") from None


def _allowed_purpose(name: str) -> None:
    """Raise SettingsError for an unknown purpose and for a forbidden one."""
    if name not in PURPOSES:
        raise SettingsError(f"unknown purpose {name!r}; choose one of {', '.join(PURPOSES)}")
    if not PURPOSES[name].allowed:
        advice = "if it is for such a reason: --purpose medical-safety"
        raise SettingsError(f"{_PROHIBITION} mien is not for that; {advice}")


def purpose_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what new settings are for; `use_from` reads them."""
    parser.add_argument(
        "--purpose", choices=PURPOSES, help="what the device is used for; without it, it is asked"
    )
    parser.add_argument("--operator", default="", metavar="TEXT", help="who is responsible for it")
    parser.add_argument("--contact", default="", metavar="TEXT", help="where people can ask")
    parser.add_argument("--legal-basis", default="", metavar="TEXT", help="legal basis in the GDPR")


def use_from(options: argparse.Namespace) -> UseSettings:
    """Return what the options of `purpose_options` say, or ask.

    Raises SettingsError for a purpose that the law forbids, and where nobody answers.
    """
    if options.purpose is None:
        return ask_use(ask_purpose())
    return stated_use(
        UseSettings(),
        options.purpose,
        operator=options.operator,
        contact=options.contact,
        legal_basis=options.legal_basis,
    )


def configure_init(parser: argparse.ArgumentParser) -> None:
    """Add the options of `init`."""
    purpose_options(parser)
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
    from mien_edge.model import boards  # NumPy, which mien-deploy needs not load

    settings = new_settings(use_from(options), options.source)
    key = boards.read_board(Path("/"))
    if key:
        board = boards.BOARDS[key]
        proposal = boards.proposal_text(settings, board) or "the built-in settings"
        settings = boards.proposed(settings, board)
        print(f"for this {board.name}: {proposal}; why: mien-edge bench --board {key}")  # noqa: T201
    write_settings(options.output, settings, options.force)
    if settings.use.minutes_only:
        kept = f"only minutes with {settings.min_group} faces or more in a frame are kept"
        print(f"{kept}; readings that the log holds are deleted when the service starts")  # noqa: T201
    next_step = f"mien-edge doctor --settings {options.output}"
    print(f"written: {options.output}; next: {next_step}")  # noqa: T201
