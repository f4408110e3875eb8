"""Keys, tokens and passwords: by the prefixes of their issuers, and by the names before them."""

import re
from typing import Final

from octarm.common.redaction.kinds import Rule, group

_NAME: Final = (
    r"(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|account[_-]?key"
    r"|private[_-]?key|credentials?|authorization)"
)
_SURE: Final = re.compile(r"(?i)(?:passw(?:or)?d|passphrase|secret|key)\Z")
_SECRET_NAME: Final = re.compile(rf"(?i)[\w .-]{{0,60}}?{_NAME}")
# What stands where a secret would, and is none.
_NO_VALUE: Final = re.compile(
    r"(?i)(?:none|null|true|false|undefined|required|optional|missing|redacted|unset)\Z"
)
LONGEST_WORD: Final = 24
LONGEST_PROSE: Final = 400

# Who issues them says how they begin; a letter or digit before means that it is another word.
_ISSUED: Final = (
    # OpenAI, Anthropic, Stripe and those who do as they do.
    r"(?:sk|pk|rk)[-_](?=[A-Za-z_-]{0,60}\d)[A-Za-z0-9_-]{16,}+",
    r"whsec_[A-Za-z0-9+/=]{16,}+",
    r"gh[oprsu]_[A-Za-z0-9]{16,}+",
    r"github_pat_\w{16,}+",
    r"gl(?:pat|ptt|dt|rt|cbt)-[\w-]{16,}+",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}+",
    r"xapp-[A-Za-z0-9-]{10,}+",
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA)[0-9A-Z]{16}\b",
    r"AIza[\w-]{30,}+",
    r"ya29\.[\w-]{20,}+",
    r"hf_[A-Za-z0-9]{20,}+",
    r"npm_[A-Za-z0-9]{30,}+",
    r"pypi-AgE[\w-]{30,}+",
    r"SG\.[\w-]{16,}+\.[\w-]{16,}+",
    r"do[opr]_v1_[0-9a-f]{40,}+",
    r"dckr_pat_[\w-]{16,}+",
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    r"glsa_\w{24,}+",
    r"(?:SK|AC)[0-9a-f]{32}\b",
    r"[0-9]{8,10}:AA[\w-]{33}",  # Telegram
    r"AGE-SECRET-KEY-1[0-9A-Z]{50,}+",
)


def is_secret_name(name: str) -> bool:
    """Tell whether a field of this name holds a secret: `password`, `db_password`, `apiKey`."""
    return len(name) <= 100 and _SECRET_NAME.fullmatch(name) is not None


def _named(match: "re.Match[str]") -> tuple[int, int] | None:
    """Take the value after a secret's name, unless it is prose, a call or a placeholder."""
    quoted = match["quoted"] is not None
    span = match.span("quoted" if quoted else "value")
    value = match.string[span[0] : span[1]]
    if _NO_VALUE.match(value):
        return None
    if len(value) > LONGEST_PROSE or any(character.isdigit() for character in value):
        return span
    if quoted:
        return None if " " in value and not _SURE.search(match["name"]) else span
    if match.string[span[1] : span[1] + 1] == "(":
        return None
    if match["sign"] != ":":
        return span
    if len(value) > LONGEST_WORD:
        return span
    goes_on = match["on"] is not None and value.isalpha()
    return span if _SURE.search(match["name"]) and not goes_on else None


def _with_digit(match: "re.Match[str]") -> tuple[int, int] | None:
    """Take the value if it is no word of a sentence."""
    return match.span("value") if re.search(r"[\d=]", match["value"]) else None


SECRETS: Final = (
    Rule(
        "PRIVATE_KEY",
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:(?!-----)[\s\S]){0,20000}+(?:-----END [A-Z0-9 ]{0,50}-----)?"
        ),
    ),
    # A JWT: two parts of base64url JSON, and a signature (or an empty one).
    Rule("TOKEN", re.compile(r"(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+)?")),
    Rule("API_KEY", re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_ISSUED)})")),
    Rule(
        "TOKEN",
        re.compile(r"(?i)\b(?:bearer|basic)\s{1,3}(?P<value>[A-Za-z0-9+/=._~-]{8,}+)"),
        _with_digit,
    ),
    Rule(
        "PASSWORD",  # in a URL
        re.compile(
            r"(?i)(?<![\w+.-])[a-z][a-z0-9+.-]{1,20}+://[^\s/:@\"<>]{0,100}+:"
            r"(?P<value>(?![$<{*])[^\s/\"<>]{1,200})@"
        ),
        group("value"),
    ),
    Rule(
        "PASSWORD",
        re.compile(
            rf"(?i)(?<![A-Za-z0-9])(?P<name>[\w-]{{0,40}}?{_NAME})(?:\\?[\"'])?"
            r"\s{0,3}(?P<sign>:=|[:=])\s{0,3}"
            r"(?:\\?[\"'](?P<quoted>(?![<$%*{\[(])[^\"'\\\n]{4,}+)"
            r"|(?P<value>(?![<$%*{\[(])[^\s\"'\\,;&}{\[\]<>()`|]{4,}+)(?=(?P<on>[ \t][A-Za-z])?))"
        ),
        _named,
    ),
    Rule(
        "PASSWORD",
        re.compile(
            r"(?i)\b(?:password|passphrase|pin)\s{1,3}(?:is|was)\s{1,3}[\"'`]?"
            r"(?P<value>[^\s\"'`,;<>]{4,}+)"
        ),
        _with_digit,
    ),
    Rule(
        "PASSWORD",
        re.compile(
            r"(?<![\w-])--(?:password|passwd|token|secret|api-key)\s{1,3}(?P<value>[^\s<$-]\S{3,}+)"
        ),
        group("value"),
    ),
)
