"""Taking keys and tokens out of a text by their form (X7): for logs, for errors, and as the `redact=` of a journal.

Every pattern is linear: it begins with fixed characters, and what repeats in it is bounded or cannot begin it anew, so
a hostile text of a megabyte costs no more than an honest one (X9).
"""

from __future__ import annotations

import logging
import re

HIDDEN = "[redacted]"
"""Stands where a secret stood."""

_FORMS = (
    r"sk-ant-[\w-]+",
    r"(?<![\w-])sk-(?=[\w-]{0,63}\d)[\w-]{20,}",  # others that begin so; a digit tells them from words
    r"\bBearer\s{1,8}[\w.~+/=-]{6,}",
    r"\bBasic\s{1,8}(?-i:(?=[\w+/=-]{0,64}(?:[a-z][A-Z]|[\d=])))[\w+/=-]{6,}",  # base64, and no English
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS: the id of a key
    r"(?<![\w-])eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*",  # JSON Web Tokens
    r"\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}",
    r"\bxox[abeprs]-[\w-]{10,}",
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:(?!-----END)[\s\S]){0,20000}(?:-----END [A-Z ]{0,40}-----)?",
    r"(?<=://)[^\s/?#@:\"'<>]{0,256}:[^\s/?#@\"'<>]{1,256}(?=@)",  # user and password of a URL
    # What is named so, where it looks like no word: the name stays.
    (
        r"(?P<name>\b(?:(?:x-)?api[_-]?key|passw(?:or)?d|(?:client|aws)_secret\w{0,24}|aws_session_token|secret_key"
        r"|(?:access|auth|refresh|credit|fallback_credit)_token)[\"'\\]{0,3}\s{0,8}[=:]\s{0,8}[\"'\\]{0,3})"
        r"(?=[^\s\"',;&}\]]{0,63}[\d!$%^*+/=~])[^\s\"'\\,;&}\]]{6,}"
    ),
)
_SECRETS = re.compile("|".join(_FORMS), re.IGNORECASE)

# No pattern matches a text that has none of these, and looking for them is many times faster.
_HINTS = re.compile(
    r"sk-|bearer|basic|akia|asia|aws|eyj|gh[opsur]_|github_pat|xox|-----begin|://|key|passw|secret|token", re.IGNORECASE
)


def redact_secrets(text: str) -> str:
    """The text with `[redacted]` in the place of keys, tokens and passwords that are known by their form.

    Known are API keys (`sk-...`), `Bearer` and `Basic` credentials, AWS keys, private key blocks, JSON Web Tokens,
    tokens of GitHub and Slack, passwords in URLs, and values named `api_key`, `password`, `access_token` and the like.
    What has no such form cannot be seen: keep it out of prompts and results.

    Params:
        text: any text.

    Returns:
        The same object where there is nothing to hide.

    Source: X7. Give it to a store, `SqliteStore("runs.db", redact=redact_secrets)`; for logs there is `SecretsFilter`.
    """
    if _HINTS.search(text) is None:
        return text
    return _SECRETS.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    return (found["name"] or "") + HIDDEN


# What steers a terminal, or turns text around (X8); line breaks and tabs of a traceback stay.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


class SecretsFilter(logging.Filter):
    """Takes keys and tokens out of log records, tracebacks included (X7), and what steers a terminal (X8).

    Put it on a handler, `handler.addFilter(SecretsFilter())`: a filter of a logger does not see what its children log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; it always passes."""
        message = record.getMessage()
        clean = _CONTROL.sub("", redact_secrets(message))
        if clean != message:
            record.msg, record.args = clean, None
        if record.exc_info:
            # Formatters print `exc_text` where there is one; `exc_info` stays for whoever looks at the exception.
            text = logging.Formatter().formatException(record.exc_info)
            record.exc_text = _CONTROL.sub("", redact_secrets(text))
        return True
