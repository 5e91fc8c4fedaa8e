"""Point at personal data in a text: addresses, numbers and names that lead to one person.

What is found is a place and a kind, never the text itself, and nothing is logged. It is a pointer
for the person who wrote the text, not a filter: patterns miss much, names and stories above all.
Where a number has a check digit it is checked, so that few dates, prices and versions are taken
for one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LONGEST = 200_000  # characters looked at

KINDS = ("email", "link", "iban", "card", "id", "phone", "ip", "address")


@dataclass(frozen=True, order=True)
class PersonalData:
    """Point at a place of a text.

    Args:
        start: of the place; the text there is `text[start:end]`.
        end: of the place.
        kind: a key of `KINDS`.
    """

    start: int
    end: int
    kind: str


def find_personal(text: str) -> list[PersonalData]:
    """Return what looks like personal data, in the order of the text, without overlaps."""
    text = text[:LONGEST]
    found: list[PersonalData] = []
    taken = bytearray(len(text))  # 1 where something has been found
    for kind, pattern, holds in LOOKS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if holds(match) and not any(taken[start:end]):
                taken[start:end] = b"\x01" * (end - start)
                found.append(PersonalData(start, end, kind))
    return sorted(found)


EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,5}[^\W\d_]{2,24}")
LINK = re.compile(
    r"\b\w{2,10}://[^\s/:@]{1,64}:[^\s/@]{1,64}@[\w.-]{1,200}"
    r"|\b(?:https?://)?(?:www\.|m\.)?(?:(?:facebook|instagram|twitter|x|github|gitlab|tiktok|threads|weibo|medium"
    r"|reddit|youtube)\.(?:com|net)|linkedin\.com|t\.me|bsky\.app|wa\.me|line\.me)"
    r"/(?:in/|u/|user/|users/|profile/|@|people/|ti/p/)?~?[\w.%-]{2,60}",
    re.IGNORECASE,
)
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
CARD = re.compile(
    r"(?<![\w.+-])(?<![A-Z]{2}\d\d )[3-6]\d{3}(?:[ -]?\d{4}){2,3}[ -]?\d{1,4}(?![\w-])"
)
IDENTITY = re.compile(
    r"(?<![\w-])(?:(?P<us>\d{3}-\d{2}-\d{4})|(?P<cn>[1-9]\d{16}[\dXx])|(?P<tw>[A-Z][1289]\d{8})"
    r"|(?P<hk>[A-Z]{1,2}\d{6}\([0-9A]\))|(?P<uk>[A-CEGHJ-PR-TW-Z]{2} ?(?:\d\d ?){3}[A-D])"
    r"|(?P<fr>[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d)"
    r"|(?P<es>\d{8}-?[A-HJ-NP-TV-Z]))(?![\w-])"
)
PHONE = re.compile(
    r"(?<![\w.,+/:#-])(?:\+|\((?=\+?\d{1,5}\))\+?)?\d(?:[ .()/\u2013-]{0,2}\d){6,14}"
    r"(?![\w/]|[.,:]\d)"
)
IP4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
IP6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:)[0-9A-Fa-f:]{6,39}(?![\w:])")
WAYS = (
    "Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Square|Sq|Terrace"
    "|Crescent|Close|Highway|Hwy|Parkway|Pkwy"
)
ADDRESS = re.compile(
    rf"\b\d{{1,5}}[A-Za-z]? (?:[A-Z0-9][\w'’-]{{0,20}}\.? ){{1,4}}(?:{WAYS})\b"
    r"|\b[A-ZÄÖÜ][\wäöüß-]{2,30}(?:straße|strasse|str\.|gasse|allee|platz|weg) ?\d{1,4} ?[a-z]?\b"
    r"|\b\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|allée|impasse|quai) "
    r"(?:(?:de|du|des|la|le|les) |l['’]|d['’]){0,3}[A-ZÀ-Ý][\w'’-]+"
    r"|\b(?:Calle|Via|Viale|Rua|Avenida|Piazza) (?:[A-ZÀ-Ý][\w'’-]+ ?|de |la |del |da |do ){1,4},? "
    r"(?:n\.?º? ?)?\d{1,4}\b"
    r"|\bP\.? ?O\.? Box \d{1,6}\b"
    r"|[\u4e00-\u9fff]{1,8}(?:大道|路|街|巷|弄|胡同)(?:[一二三四五六七八九十\d]{1,3}段)?"
    r"(?:\d{1,4}巷)?(?:\d{1,4}弄)?\d{1,5}(?:[之-]\d{1,3})?[号號]"
)

DATE = re.compile(
    r"(?:(?:19|20)\d\d[ ./-]\d{1,2}[ ./-]\d{1,2}|\d{1,2}[ ./-]\d{1,2}[ ./-](?:19|20)\d\d"
    r"|(?:19|20)\d{6})(?![\d/-])(?:[ T.].*)?"
)
YEARS = re.compile(r"(?:19|20)\d\d ?[-\u2013/] ?(?:19|20)\d\d")
GROUPED_SUM = re.compile(r"[1-9]\d{0,2}(?:([ .])\d{3})(?:\1\d{3})*")
BEFORE_PHONE = re.compile(
    r"(?:tel|telefon|telephone|téléphone|teléfono|phone|mobile|mobil|cell|call|ring|text|fax"
    r"|whatsapp|handy|电话|電話|手机|手機|致电|致電|联系方式|聯絡|专线|專線)\w{0,3}[\s.:：(]{0,4}"
    r"(?:me |us |at |on |is )*$",
    re.IGNORECASE,
)
BEFORE_NUMBER = re.compile(
    r"(?:[$€£¥₩₹]|NT\$|\b(?:isbn|issn|arxiv|doi|no|nr|order|invoice|ticket|issue|version|v|id|ref|rfc"
    r"|usd|eur|gbp|twd|cny|rmb)|编号|編號|订单|訂單|单号|單號|统编|統編)[\s.:：#]{0,3}$",
    re.IGNORECASE,
)
AFTER_SUM = re.compile(
    r"\s?(?:[$€£¥%‰元]|(?:usd|eur|euros?|gbp|twd|cny|rmb|dollars?|pounds?|yuan|km|kg|people|words"
    r"|bytes|人|块|塊|萬|万|億|亿)\b)",
    re.IGNORECASE,
)
NATIONAL = re.compile(
    r"1[3-9]\d{9}|1[3-9]\d[ -]\d{4}[ -]\d{4}"  # Chinese mobiles, then American numbers
    r"|(?:1[ .-])?\(?[2-9]\d\d\)?([ .-]) ?\d{3}[ .-]\d{4}|\([2-9]\d\d\) ?\d{3}[ .-]\d{4}"
    r"|\(?0\d{1,5}\)?(?:[ /.()\u2013-]{0,2}\d){5,10}"  # with the trunk prefix 0
)


def _is_phone(match: re.Match[str]) -> bool:
    """Take a run of digits for a phone number by its form, or by the word before it."""
    number, text = match.group(), match.string
    digits = re.sub(r"\D", "", number)
    before = text[max(0, match.start() - 24) : match.start()]
    if DATE.fullmatch(number) or YEARS.fullmatch(number) or len(set(digits)) == 1:
        return False
    international = number.lstrip("(").startswith("+") or digits.startswith("00")
    if international:
        return 8 <= len(digits.lstrip("0")) <= 15
    if BEFORE_NUMBER.search(before) or AFTER_SUM.match(text, match.end()):
        return False
    if BEFORE_PHONE.search(before):
        return True
    if GROUPED_SUM.fullmatch(number) or re.match(r"0\.\d", number):
        return False
    return bool(NATIONAL.fullmatch(number)) and 9 <= len(digits) <= 11


def _is_iban(match: re.Match[str]) -> bool:
    plain = match.group().replace(" ", "")
    turned = "".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])
    return 15 <= len(plain) <= 34 and int(turned) % 97 == 1


def _is_card(match: re.Match[str]) -> bool:
    digits = [int(digit) for digit in re.sub(r"\D", "", match.group())]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    known = 13 <= len(digits) <= 19 and len(set(digits)) > 1
    return known and (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _is_identity(match: re.Match[str]) -> bool:
    kind = match.lastgroup or ""
    return CHECKED[kind](re.sub(r"[ -]", "", match.group()))


def _is_american(number: str) -> bool:
    return number[:3] not in ("000", "666") and number[0] != "9" and number[3:5] != "00"


def _is_chinese(number: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * weight for digit, weight in zip(number[:17], weights, strict=True))
    return "10X98765432"[total % 11] == number[17].upper()


def _is_taiwanese(number: str) -> bool:
    first = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(number[0]) + 10
    digits = [first // 10, first % 10, *map(int, number[1:])]
    return (
        sum(d * w for d, w in zip(digits, (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True)) % 10 == 0
    )


def _is_hong_kong(number: str) -> bool:
    letters, check = number[:-3].rstrip("0123456789"), number[-2]
    values = [36] * (2 - len(letters)) + [int(letter, 36) for letter in letters]
    values += [int(digit) for digit in number[len(letters) : -3]]
    total = sum(value * weight for value, weight in zip(values, range(9, 1, -1), strict=True))
    return (total + int(check, 16)) % 11 == 0


def _is_french(number: str) -> bool:
    plain = (
        number.replace("2A", "19").replace("2B", "18") if number[5:7] in ("2A", "2B") else number
    )
    return int(plain[:13]) % 97 == 97 - int(plain[13:]) if plain.isdigit() else False


def _is_spanish(number: str) -> bool:
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number[:8]) % 23] == number[8]


CHECKED: dict[str, Callable[[str], bool]] = {
    "us": _is_american,
    "cn": _is_chinese,
    "tw": _is_taiwanese,
    "hk": _is_hong_kong,
    "uk": lambda number: True,  # no check digit: the form says enough
    "fr": _is_french,
    "es": _is_spanish,
}


def _is_public_ip(match: re.Match[str]) -> bool:
    """Take an address that is somebody's: none of a private network, and no version number."""
    before = match.string[max(0, match.start() - 10) : match.start()]
    if re.search(r"(?:version|v|release)[\s.]?$", before, re.IGNORECASE):
        return False
    try:
        address = ipaddress.ip_address(match.group())
    except ValueError:
        return False
    large = sum(len(part) > 1 for part in re.split(r"[.:]", match.group()))
    return address.is_global and large >= 2


def _always(match: re.Match[str]) -> bool:
    return True


Holds = Callable[[re.Match[str]], bool]
LOOKS: tuple[tuple[str, re.Pattern[str], Holds], ...] = (
    ("link", LINK, _always),
    ("email", EMAIL, _always),
    ("iban", IBAN, _is_iban),
    ("id", IDENTITY, _is_identity),
    ("card", CARD, _is_card),
    ("ip", IP4, _is_public_ip),
    ("ip", IP6, _is_public_ip),
    ("phone", PHONE, _is_phone),
    ("address", ADDRESS, _always),
)


def kinds_in(text: str) -> Iterator[str]:
    """Yield the kinds of personal data in a text, each once."""
    yield from dict.fromkeys(found.kind for found in find_personal(text))
