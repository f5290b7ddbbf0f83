"""Secrets, and how they are kept out of everything that is written down.

A `Secret` does not show itself. Text on its way to a log, a message or a bundle goes through `redact`, which hides
every secret this process holds and whatever else looks like one in a URL.
"""

from __future__ import annotations

import re
import weakref
from typing import NoReturn

HIDDEN = "***"

# Logs come from any thread: a dictionary can be listed while another thread adds to it, a WeakSet cannot.
_alive: dict[int, weakref.ref[Secret]] = {}


class Secret:
    """Text that no `repr`, `str`, format or pickle shows; only `reveal()` gives it."""

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        key = id(self)
        _alive[key] = weakref.ref(self, lambda _gone: _alive.pop(key, None))

    def reveal(self) -> str:
        """The text itself. Call it where it is used, and keep nothing of it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


_URL = re.compile(
    r"(?P<head>\b(?:https?|wss?)://)(?P<user>[^/@\s\"'<>]*@)?(?P<host>[^/?#\s\"'<>]+)(?P<rest>[^\s\"'<>]*)"
)
_TELLING = re.compile(
    r"/(?:services|webhooks?|webhookb2|hooks?|workflows|triggers|bots?)(?:/|\b)|/bot\d+:", re.IGNORECASE
)
_TOKEN = re.compile(r"^(?=.*\d)[A-Za-z0-9_~:-]{16,}$|^[A-Za-z0-9_~:-]{24,}$")
_PUBLIC_PARAMETERS = re.compile(
    r"(?i)markets?|symbols?|intervals?|units?|limit|count|to|from|since|until|cursor|levels?|is_?details|"
    r"quote_currencies|start(time)?|end(time)?|period[12]|range|converting_price_unit|days_?ago|instrument|timeframe"
)
_PAIR = re.compile(
    r"(?i)(?P<name>[\"']?\b(?:authorization|api[-_]?key|access[-_]?key|secret[-_]?key|secret|token|password|passphrase|"
    r"webhook-signature|cookie)\b[\"']?\s*[:=]\s*)(?P<value>\"[^\"]*\"|'[^']*'|(?:(?:bearer|basic)\s+)?[^\s,;}\]\"']+)"
)
_SIGNING_KEY = re.compile(r"\bwh(?:sec|sk)_[A-Za-z0-9+/=_-]+")


def redact(text: str) -> str:
    """The text without secrets: those held by a `Secret` now, signing keys, passwords, and URLs' private parts.

    A URL keeps its host and the parts that public market data has; whatever else may be a token becomes `***`.
    """
    known = {secret._value for reference in list(_alive.values()) if (secret := reference()) is not None}
    for value in sorted((v for v in known if len(v) >= 4), key=len, reverse=True):
        if value in text:
            text = text.replace(value, HIDDEN)
    text = _URL.sub(_hide_in_url, text)
    text = _SIGNING_KEY.sub(HIDDEN, text)
    return _PAIR.sub(lambda match: match["name"] + HIDDEN, text)


def _hide_in_url(match: re.Match[str]) -> str:
    path, question, query = match["rest"].partition("?")
    if telling := _TELLING.search(path):
        path = path[: telling.start()] + f"/{HIDDEN}"
    else:
        path = "/".join(HIDDEN if _TOKEN.match(part) else part for part in path.split("/"))
    pairs = []
    for pair in query.split("&") if question else []:
        name, _, _value = pair.partition("=")
        pairs.append(pair if _PUBLIC_PARAMETERS.fullmatch(name) else f"{name}={HIDDEN}")
    user = f"{HIDDEN}@" if match["user"] else ""
    return match["head"] + user + match["host"] + path + (question + "&".join(pairs) if question else "")
