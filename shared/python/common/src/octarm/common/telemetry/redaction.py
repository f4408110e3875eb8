"""Text as it may be shown: what looks like a secret is replaced.

A net with holes: it catches the shapes that people paste by mistake, so that they do not end up
in logs, tickets and screenshots. Access is what protects data.
"""

import re
from typing import Final

MASK: Final = "[redacted]"
_SECRETS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]{0,20000}?(?:-----END [A-Z ]{0,30}-----|$)",
        r"\beyJ[\w-]{8,}\.[\w-]{8,}\.?[\w-]*",
        r"\b(?:sk|pk|rk)[-_](?:[a-z]{2,8}[-_])?[A-Za-z0-9_-]{16,}",
        r"\b(?:gh[oprsu]|github_pat|glpat|xox[abprs]|hf)[-_][A-Za-z0-9_-]{10,}",
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\bAIza[\w-]{30,}",
    )
)
# Kept up to the group, so that one sees what was there.
_NAMED: Final = (
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{8,}"),
    re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"]{0,100}:)[^\s/@\"]{1,200}(?=@)"),
    re.compile(
        r"(?i)(\b[\w-]{0,40}(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key"
        r"|credentials?|authorization)\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?)"
        r"(?!\[redacted)[^\s\"'\\,;&}{\[]{4,}"
    ),
)


def redact(text: str) -> str:
    """Replace what looks like a key, a token, a password or a private key."""
    for pattern in _SECRETS:
        text = pattern.sub(MASK, text)
    for pattern in _NAMED:
        text = pattern.sub(rf"\1{MASK}", text)
    return text
