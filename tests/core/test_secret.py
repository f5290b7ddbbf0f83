"""Nothing that goes to a log or a bundle shows a secret; market addresses stay readable."""

from __future__ import annotations

import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchhamster.core.secret import Secret, redact


@given(st.text(min_size=4).filter(lambda text: text not in "Secret(***)"))
def test_a_secret_never_shows_itself(value: str) -> None:
    secret = Secret(value)
    assert secret.reveal() == value
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s %r" % (secret, [secret])]  # noqa: UP031
    assert not any(value in text.replace("Secret(***)", "") for text in shown if len(value) > 12)
    assert all("Secret(***)" in text for text in shown)


def test_a_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps({"key": Secret("correct horse")})


def test_a_live_secret_is_hidden_wherever_it_turns_up() -> None:
    secret = Secret("correct horse battery")
    assert redact("failed with correct horse battery in hand") == "failed with *** in hand"
    logged = logging.LogRecord("x", logging.INFO, "", 0, "%s", (secret,), None).getMessage()
    assert secret.reveal() not in logged


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("POST https://hook.dooray.com/services/1234567890/9876543210/AbCdEfGhIjKl 200", "AbCdEfGhIjKl"),
        ("https://hooks.slack.com/services/T000/B000/xyzxyz", "xyzxyz"),
        ("https://discord.com/api/webhooks/1234/tok-en_123?wait=true", "tok-en_123"),
        ("https://api.telegram.org/bot123456:ABC-DEF1234ghIkl/sendMessage", "ABC-DEF1234ghIkl"),
        ("https://example.com/in/0123456789abcdef0123", "0123456789abcdef0123"),
        ("https://user:pass@example.com/x", "user:pass"),
        ("https://example.com/?sig=abc%2Bdef&api-version=1", "abc%2Bdef"),
        ("Authorization: Bearer eyJhbGciOi.payload.sig", "eyJhbGciOi"),
        ("{'api_key': 'abcdef'}", "abcdef"),
        ("key whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw used", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, hidden: str) -> None:
    assert hidden not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "GET https://api.upbit.com/v1/candles/minutes/1?market=KRW-BTC&to=2024-01-01T00:00:00Z&count=200 429",
        "wss://api.upbit.com/websocket/v1 closed",
        "http://127.0.0.1:8123/upbit/v1/ticker?markets=KRW-BTC,KRW-ETH",
        "Upbit closed the connection 12 s ago; prices come by REST every 2 s.",
    ],
)
def test_market_addresses_and_sentences_stay_readable(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_redacting_never_fails_and_is_settled_after_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


def test_a_secret_that_is_gone_is_forgotten() -> None:
    secret = Secret("a passing fancy")
    assert "fancy" not in redact("a passing fancy")
    del secret
    assert redact("a passing fancy") == "a passing fancy"
