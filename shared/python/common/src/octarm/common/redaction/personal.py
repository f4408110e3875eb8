"""Data of people: mail addresses, telephone and card numbers, accounts, addresses of machines."""

import ipaddress
import re
from typing import Final

from octarm.common.redaction.kinds import Rule

# Lengths by country, of the IBAN registry of ISO 13616.
_REGISTRY: Final = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 "
    "DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 "
    "HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 "
    "MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 "
    "RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 "
    "VA22 VG24 XK20 YE30"
)
IBAN_LENGTHS: Final = {entry[:2]: int(entry[2:]) for entry in _REGISTRY.split()}
LEAST_DIGITS: Final = 8
MOST_DIGITS: Final = 15
# A number is not part of a word, of a digest or of a longer number.
_ALONE: Final = r"(?<![\w.+-])"
_END: Final = r"(?!\w|[.-]\d)"


def passes_luhn(digits: str) -> bool:
    """Tell whether a card number's check digit fits (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def passes_mod_97(iban: str) -> bool:
    """Tell whether an account number's check digits fit (ISO 7064, MOD 97-10)."""
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _card(match: "re.Match[str]") -> tuple[int, int] | None:
    digits = re.sub(r"\D", "", match[0])
    return match.span() if len(set(digits)) > 1 and passes_luhn(digits) else None


def _iban(match: "re.Match[str]") -> tuple[int, int] | None:
    """Read as many characters as the country's numbers have; single gaps do not count."""
    text, start = match.string, match.start()
    length = IBAN_LENGTHS.get(match[0][:2].upper())
    if length is None:
        return None
    # Lower case with hyphens is a UUID rather than an account.
    gaps = " \u00a0-" if match[0].isupper() else " \u00a0"
    number, place = "", start
    while len(number) < length and place < len(text):
        character = text[place]
        if character.isascii() and character.isalnum():
            number += character
        elif character not in gaps or text[place - 1] in gaps:
            return None
        place += 1
    ends = place == len(text) or not text[place].isalnum()
    return (start, place) if len(number) == length and ends and passes_mod_97(number) else None


def _phone(match: "re.Match[str]") -> tuple[int, int] | None:
    """Take the leading groups that make a number of 8 to 15 digits (ITU-T E.164)."""
    digits, end = 0, 0
    for part in re.finditer(r"\d+", match[0]):
        if digits + len(part[0]) > MOST_DIGITS:
            break
        digits += len(part[0])
        end = part.end()
    return (match.start(), match.start() + end) if digits >= LEAST_DIGITS else None


def _address(match: "re.Match[str]") -> tuple[int, int] | None:
    try:
        ipaddress.ip_address(match[0])
    except ValueError:
        return None
    return match.span()


def _ascii(pattern: str) -> "re.Pattern[str]":
    return re.compile(pattern, re.ASCII)


def _cards(*shapes: str) -> tuple[Rule, ...]:
    return tuple(
        Rule("CREDIT_CARD", _ascii(rf"(?<![\w+-])(?<!\d\.){shape}(?!\w)(?!\.\d)"), _card)
        for shape in shapes
    )


PERSONAL: Final = (
    Rule(
        "EMAIL",
        re.compile(r"(?<![\w.%+-])[\w.%+-]{1,254}+@(?:[\w-]{1,63}+\.){1,20}[^\W\d_]{2,63}(?!\w)"),
    ),
    *_cards(
        r"[2-6]\d{12,18}",
        r"[2-6]\d{3}(?P<gap>[ \u00a0-])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}",
        r"[56]\d{3}(?P<gap>[ \u00a0-])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}(?P=gap)\d{3}",
        r"3\d{3}(?P<gap>[ \u00a0-])\d{6}(?P=gap)\d{4,5}",
    ),
    Rule("IBAN", _ascii(r"(?<!\w)[A-Za-z]{2}\d{2}(?=[ \u00a0-]?[A-Za-z0-9])"), _iban),
    # With a country's code; with an area's of North America; with a trunk zero and separators.
    Rule(
        "PHONE",
        _ascii(
            rf"{_ALONE}\+[1-9]\d{{0,14}}+(?!\w)(?:[ \u00a0./()-]{{1,2}}\d{{1,12}}+(?!\w)){{0,7}}+"
        ),
        _phone,
    ),
    Rule(
        "PHONE",
        _ascii(
            rf"{_ALONE}(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])"
            rf"[2-9]\d\d[ .-]\d{{4}}{_END}"
        ),
    ),
    Rule(
        "PHONE",
        _ascii(
            rf"{_ALONE}(?:\(0\d{{1,5}}\)|0\d{{1,5}})[ /-] ?\d{{3,9}}(?:[ -]\d{{2,6}}){{0,3}}{_END}"
        ),
        _phone,
    ),
    Rule("IP_ADDRESS", _ascii(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)"), _address),
    Rule(
        "IP_ADDRESS",
        _ascii(r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{3,39}+(?![\w.])"),
        _address,
    ),
)
