"""`mien-edge notice`: informs the people whom the camera sees, in two layers.

The first is the sign in front of the camera, the second the full information (EDPB Guidelines
3/2019, section 7; GDPR, Articles 12 and 13; Regulation (EU) 2024/1689, Article 50(3)).
"""

import argparse
import dataclasses
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mien_edge import files
from mien_edge.commands.common import model_option, settings_from, settings_option
from mien_edge.errors import SettingsError
from mien_edge.labels import LABELS, title
from mien_edge.model.bundle import find_bundle, read_card
from mien_edge.settings import Settings, UseSettings

_DAYS_PER_MONTH = 30.4


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of the notice in one language.

    title, body: the sign's, and what is estimated: {count} labels, which are {labels}.
    counts: numbers in words, from 0 on.
    labels: names of labels where they have others than in English, and what stands between two.
    purposes: what a device is used for, by use.purpose.
    single, minutes: what is kept for {days} and {months}, of readings or of groups of {faces}.
    picture, no_picture: who sees pictures.
    nobody: there are no recipients.
    rights, all_rights: what people may ask for, on the sign and in full.
    blank: stands where the operator has still to write something.
    more: where the second layer is.
    headings: by the part of the notice.
    law: what the notice is given under.
    """

    title: str
    body: str
    counts: tuple[str, ...]
    labels: dict[str, str]
    separator: str
    purposes: dict[str, str]
    single: str
    minutes: str
    picture: str
    no_picture: str
    nobody: str
    rights: str
    all_rights: str
    blank: str
    more: str
    second_title: str
    headings: dict[str, str]
    law: str


_WORDINGS = {
    "en": Wording(
        title="A camera here estimates facial expressions",
        body="A small computer looks for faces and estimates, from the expression, one of {count} "
        "labels: {labels}. It judges how a face looks, not what a person feels, and it is often "
        "wrong.",
        counts=(
            "no",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
        ),
        labels={},
        separator=", ",
        purposes={
            "private": "private use at home",
            "research": "research with the consent of those who take part",
            "public": "an exhibition, a shop window or a public place; only groups are counted",
            "medical-safety": "a medical or a safety reason",
        },
        single="Labels with a time are kept for {days} days, sums per minute for {months} months.",
        minutes="Nothing of a single face is kept. Sums per minute, of minutes with at least "
        "{faces} faces in one picture, are kept for {months} months.",
        picture="Pictures are not stored. Those who run the device can watch the live picture.",
        no_picture="Pictures are not stored and do not leave the device.",
        nobody="Nobody else: only those who run the device can read it.",
        rights="Access, correction, deletion, restriction, objection, complaint.",
        all_rights="You may ask for access to what is kept about you, its correction, deletion or "
        "restriction, object to it, withdraw a consent at any time, and complain to a data "
        "protection authority (GDPR, Articles 7, 15 to 18, 21 and 77).",
        blank="to be filled in",
        more="All information is on the second page of this notice; ask for it at the contact "
        "above.",
        second_title="Information on the camera that estimates facial expressions",
        headings={
            "purpose": "Purpose",
            "operator": "Responsible",
            "contact": "Questions, objection, deletion",
            "rights": "Your rights",
            "data": "What is processed",
            "pictures": "Pictures",
            "basis": "Legal basis",
            "retention": "How long it is kept",
            "recipients": "Who receives it",
        },
        law="This notice is given under Article 50(3) of Regulation (EU) 2024/1689 and Article 13 "
        "of Regulation (EU) 2016/679 (GDPR).",
    ),
    "zh-TW": Wording(
        title="此處的攝影機會估計臉部表情",
        body="一台小型電腦會尋找人臉，並依表情估計{count}種標籤之一：{labels}。"
        "它判斷的是臉看起來的樣子，不是人的感受，而且經常出錯。",
        counts=(
            "零",
            "一",
            "兩",
            "三",
            "四",
            "五",
            "六",
            "七",
            "八",
            "九",
            "十",
            "十一",
            "十二",
            "十三",
            "十四",
            "十五",
            "十六",
        ),
        labels={
            "angry": "生氣",
            "disgust": "厭惡",
            "fear": "恐懼",
            "happy": "快樂",
            "sad": "悲傷",
            "surprise": "驚訝",
            "neutral": "平靜",
            "contempt": "輕蔑",
        },
        separator="、",
        purposes={
            "private": "家中私人使用",
            "research": "研究，參與者皆已同意",
            "public": "展覽、櫥窗或公共場所；只統計群體",
            "medical-safety": "醫療或安全用途",
        },
        single="帶時間的標籤保留 {days} 天，每分鐘的統計保留 {months} 個月。",
        minutes="不保留任何一張臉的資料。只有同一畫面中至少有 {faces} 張臉的那幾分鐘，"
        "才會留下每分鐘的統計，保留 {months} 個月。",
        picture="影像不會被儲存；裝置的管理者可以觀看即時影像。",
        no_picture="影像不會被儲存，也不會離開裝置。",
        nobody="沒有其他人：只有裝置的管理者能讀取。",
        rights="查閱、更正、刪除、限制處理、反對、申訴。",
        all_rights="您可以要求查閱、更正、刪除與您有關的資料或限制其處理，可以提出反對，可以隨時撤回同意，"
        "也可以向個人資料保護主管機關申訴（GDPR 第 7 條、第 15 至 18 條、第 21 條與第 77 條）。",
        blank="待填寫",
        more="完整說明在本告示的第二頁；也可以向上列聯絡處索取。",
        second_title="關於估計臉部表情之攝影機的完整說明",
        headings={
            "purpose": "用途",
            "operator": "負責人",
            "contact": "詢問、反對、刪除",
            "rights": "您的權利",
            "data": "處理哪些資料",
            "pictures": "影像",
            "basis": "法律依據",
            "retention": "保留多久",
            "recipients": "誰會收到",
        },
        law="本告示依歐盟規則 (EU) 2024/1689 第 50 條第 3 項"
        "及規則 (EU) 2016/679（GDPR）第 13 條提供。",
    ),
}
LANGUAGES = tuple(_WORDINGS)

_SIGN = ("purpose", "operator", "retention", "pictures", "rights", "contact")
"""The parts of the first layer."""

_STYLE = """
@page { size: A4; margin: 18mm }
* { box-sizing: border-box }
dt, dd { break-inside: avoid }
body { font-family: system-ui, "Noto Sans", "Noto Sans CJK TC", sans-serif; color: #111;
  line-height: 1.45; max-width: 174mm; margin: 0 auto; padding: 6vw 5vw; font-size: 17px }
h1 { font-size: 1.9em; line-height: 1.15; margin: 0 0 .6em }
h2 { font-size: 1.5em; line-height: 1.2; margin: 0 0 .6em }
svg { width: 5em; height: 5em; display: block; margin-bottom: .8em }
dt { font-weight: 700; margin-top: .8em }
dd { margin: 0; overflow-wrap: anywhere }
small { display: block; margin-top: 1.6em; font-size: .75em; color: #444 }
.blank { display: block; border-bottom: 1px solid #555; min-height: 1.9em; color: #777;
  font-size: .7em }
.second { border-top: 1px solid #999; margin-top: 3em; padding-top: 2em }
@media print {
  body { font-size: 14pt; padding: 0; max-width: none }
  .second { break-before: page; border: 0; margin: 0; padding: 0 }
}
"""

_PAGE = """<!doctype html>
<html lang="{language}"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>{style}</style>
<section class="first">
<svg viewBox="0 0 36 36" fill="none" stroke="#111" stroke-width="2" aria-hidden="true">
<rect x="2" y="8" width="32" height="22" rx="3"/>
<path d="M12 8l3-4h6l3 4"/>
<circle cx="18" cy="19" r="7"/>
<path d="M15 21q3 3 6 0" stroke-linecap="round"/>
<path d="M15.5 17v.5M20.5 17v.5" stroke-linecap="round"/>
</svg>
<h1>{title}</h1>
<p>{body}</p>
<dl>
{first}
</dl>
<p>{more}</p>
</section>
<section class="second">
<h2>{second_title}</h2>
<dl>
{second}
</dl>
<small>{law}</small>
</section>
</html>
"""


def write_notice(
    path: Path,
    settings: Settings,
    language: str,
    purpose: str = "",
    labels: Sequence[str] = LABELS,
) -> None:
    """Write the notice as a page for print (HTML, two sheets of A4) and for a phone.

    settings: what the device is used for, and for how long it keeps what. What is not set there is
        a marked blank, to be filled in by hand.
    language: one of LANGUAGES.
    purpose: what the device is used for in the operator's words; '' for those of use.purpose.
    labels: those of the bundle that runs.

    Raises SettingsError if the file cannot be written.
    """
    wording = _WORDINGS[language]
    body = _body(wording, labels)
    texts = {**_texts(settings, wording, purpose), "data": body}
    page = _PAGE.format(
        language=language,
        style=_STYLE,
        title=html.escape(wording.title),
        body=html.escape(body),
        more=html.escape(wording.more),
        second_title=html.escape(wording.second_title),
        law=html.escape(wording.law),
        first=_parts(wording, {**texts, "rights": wording.rights}, _SIGN),
        second=_parts(wording, texts, tuple(wording.headings)),
    )
    try:
        files.write_text(path, page)
    except OSError as problem:
        reason = f"cannot be written ({problem.strerror})"
        raise SettingsError(f"{path}: {reason}; name another file") from None


def _body(wording: Wording, labels: Sequence[str]) -> str:
    names = (wording.labels.get(label) or title(label) for label in labels)
    count = wording.counts[len(labels)]
    return wording.body.format(count=count, labels=wording.separator.join(names))


def _texts(settings: Settings, wording: Wording, purpose: str) -> dict[str, str]:
    """The text of each part that the settings decide; '' where they do not say it."""
    use = settings.use
    picture = wording.picture if settings.view.show_picture else wording.no_picture
    recipients = use.recipients
    if not recipients and not settings.publish.host:
        recipients = wording.nobody
    return {
        "purpose": purpose or wording.purposes.get(use.purpose, ""),
        "operator": use.operator,
        "contact": use.contact,
        "rights": wording.all_rights,
        "pictures": picture,
        "basis": use.legal_basis,
        "retention": _retention(settings, wording),
        "recipients": recipients,
    }


def _retention(settings: Settings, wording: Wording) -> str:
    text = wording.minutes if settings.use.minutes_only else wording.single
    return text.format(
        days=f"{settings.log.max_days:g}",
        months=f"{settings.log.max_summary_days / _DAYS_PER_MONTH:.0f}",
        faces=settings.min_group,
    )


def _parts(wording: Wording, texts: dict[str, str], names: tuple[str, ...]) -> str:
    blank = f'<span class="blank">{html.escape(wording.blank)}</span>'
    lines = []
    for name in names:
        content = html.escape(texts[name]) or blank
        lines.append(f"<dt>{html.escape(wording.headings[name])}</dt><dd>{content}</dd>")
    return "\n".join(lines)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `notice`."""
    parser.add_argument("output", type=Path, help=".html file to write")
    parser.add_argument(
        "--language",
        choices=LANGUAGES,
        default="en",
        help="language of the notice (default: en)",
    )
    parser.add_argument(
        "--purpose",
        default="",
        metavar="TEXT",
        help="what the device is used for, in your words (default: by use.purpose)",
    )
    for key in ("operator", "contact", "legal_basis", "recipients"):
        option = f"--{key.replace('_', '-')}"
        parser.add_argument(option, metavar="TEXT", help=f"in place of use.{key} of the settings")
    settings_option(parser)
    model_option(parser)
    parser.set_defaults(run=_notice)


def _notice(options: argparse.Namespace) -> None:
    settings = settings_from(options)
    card = read_card(find_bundle(settings.model.bundle))
    names = [field.name for field in dataclasses.fields(UseSettings) if field.name != "purpose"]
    stated = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    settings = dataclasses.replace(settings, use=dataclasses.replace(settings.use, **stated))
    write_notice(options.output, settings, options.language, options.purpose, card.labels)
    print(f"written: {options.output}; open it in a browser and print it")  # noqa: T201
