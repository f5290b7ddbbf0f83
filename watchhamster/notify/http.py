"""Posting to addresses that people typed, where the address itself is often the secret.

Only https to public hosts, unless the user said that the server is local: the name is resolved once, every address is
judged, and the socket goes to the judged address, so that a name cannot point elsewhere a moment later. No redirects,
no proxies from the environment, no cookies, a bounded answer. The transport is used without httpx's client, which logs
every URL; no error or log line holds more of a URL than its host.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping

import httpx
import msgspec

from watchhamster.core.ports import Clock, UsageError
from watchhamster.core.secret import Secret, redact
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Outcome, Receipt

TIMEOUT_S = 10.0
PAUSE_LONGEST_S = 3600.0  # whatever a server asks for
_ANSWER_LONGEST = 65_536
_RETRY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REFUSED = frozenset({401, 403, 404, 410})
_REFUSALS_MOST = 3
_USER_AGENT = "WatchHamster/0.1"


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer: header names in lower case, at most 64 KiB of body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_ms: float


class PostFailed(Exception):
    """No answer came. `sent`: the request had gone out, so it may have had its effect. The text names the host only."""

    def __init__(self, reason: str, *, sent: bool, permanent: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent
        self.permanent = permanent


class Poster:
    """One pool of connections for all channels."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S, tls: ssl.SSLContext | None = None) -> None:
        self._timeout_s = timeout_s
        self._tls = tls
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def post(self, url: Secret, content: bytes, headers: Mapping[str, str], *, local: bool = False) -> Answer:
        """The answer to a POST. Raises `PostFailed`; `UsageError` (`bad_url`) for an address that is not allowed."""
        address = check_url(url, local=local)
        if self._transport is None:
            # Loading the certificates takes tens of milliseconds; no kept connections, since those go by address and
            # two names may share one.
            tls = self._tls if self._tls is not None else await asyncio.to_thread(httpx.create_ssl_context)
            self._transport = httpx.AsyncHTTPTransport(verify=tls, limits=httpx.Limits(max_keepalive_connections=0))
        sent = False

        async def trace(event: str, _info: object) -> None:
            nonlocal sent
            sent = sent or event == "http11.send_request_headers.started"

        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._dial(address, content, headers, trace, local)
                try:
                    body = b""
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > _ANSWER_LONGEST:
                            break
                finally:
                    await response.aclose()
        except TimeoutError:
            raise PostFailed(f"{address.host} did not answer within {self._timeout_s:g} s", sent=sent) from None
        except httpx.HTTPError as error:
            reason = redact(str(error)) or type(error).__name__
            raise PostFailed(f"{address.host}: {reason}", sent=sent) from None
        elapsed_ms = (time.perf_counter() - began) * 1000
        lower = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, lower, body[:_ANSWER_LONGEST], elapsed_ms)

    async def close(self) -> None:
        """Drop every socket."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    async def _dial(
        self, url: httpx.URL, content: bytes, headers: Mapping[str, str], trace: object, local: bool
    ) -> httpx.Response:
        assert self._transport is not None
        port = url.port or (443 if url.scheme == "https" else 80)
        failure: httpx.HTTPError | None = None
        for address in await _addresses(url.host, port, local):
            request = httpx.Request(
                "POST",
                url.copy_with(host=address),
                headers={"user-agent": _USER_AGENT, **headers, "host": url.netloc.decode("ascii")},
                content=content,
                extensions={
                    "timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s),
                    "sni_hostname": url.host,
                    "trace": trace,
                },
            )
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error  # the host's next address, if it has one
        assert failure is not None
        raise failure


def check_url(url: Secret, *, local: bool) -> httpx.URL:
    """The address, if it may be posted to. Raises `UsageError` (`bad_url`) without showing it."""
    try:
        address = httpx.URL(url.reveal())
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in (("https", "http") if local else ("https",)) or not address.host or address.userinfo:
        raise UsageError(
            "bad_url",
            Text("This is not an address that messages can be posted to."),
            Text("It begins with http:// or https:// and holds no user name.")
            if local
            else Text(
                "It begins with https:// and holds no user name; for a server of your own, say that it is local."
            ),
        )
    return address


async def _addresses(host: str, port: int, local: bool) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise PostFailed(f"{host} has no address (DNS)", sent=False) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not local and not all(is_public(address) for address in addresses):
        raise PostFailed(f"{host} is on a private network; say that the server is local", sent=False, permanent=True)
    return addresses[:3]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, the address inside a mapped or translated one included."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class Target:
    """One address that messages are posted to, and what its answers come to."""

    def __init__(self, poster: Poster, clock: Clock, url: Secret, *, local: bool = False) -> None:
        self.host = check_url(url, local=local).host
        self._poster = poster
        self._clock = clock
        self._url = url
        self._local = local
        self._refusals = 0  # in a row

    async def post(self, content: bytes, headers: Mapping[str, str]) -> tuple[Receipt, Answer | None]:
        """Post once and judge the answer by the rules that hold for every service."""
        try:
            answer = await self._poster.post(self._url, content, headers, local=self._local)
        except PostFailed as failure:
            outcome: Outcome = "permanent" if failure.permanent else "retry"
            return Receipt(outcome=outcome, text=str(failure), in_doubt=failure.sent), None
        return self._judge(answer), answer

    def _judge(self, answer: Answer) -> Receipt:
        text = f"HTTP {answer.status} in {answer.elapsed_ms:.0f} ms"
        self._refusals = self._refusals + 1 if answer.status in _REFUSED else 0
        if 200 <= answer.status < 300:
            return Receipt(outcome="ok", text=text)
        if answer.status in _RETRY or answer.status >= 500:
            return Receipt(outcome="retry", text=text, pause_s=self._pause_s(answer))
        if self._refusals >= _REFUSALS_MOST:
            return Receipt(outcome="disable", text=f"{text}, {self._refusals} times running")
        return Receipt(outcome="permanent", text=text)

    def _pause_s(self, answer: Answer) -> float:
        """How long to leave the target alone: the larger of what header and body say, an hour at most."""
        waits = [0.0, _seconds(answer.headers.get("retry-after", ""), self._clock.now_ns())]
        try:
            body = msgspec.json.decode(answer.body)
        except msgspec.DecodeError:
            body = None
        if isinstance(body, dict) and isinstance(body.get("retry_after"), int | float):
            waits.append(float(body["retry_after"]))
        return min(max(wait for wait in waits if wait == wait), PAUSE_LONGEST_S)


def _seconds(retry_after: str, now_ns: int) -> float:
    """The header's seconds, or its date less now; 0 for what is neither."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(retry_after)
    except (TypeError, ValueError):
        return 0.0
    if at.tzinfo is None:
        at = at.replace(tzinfo=dt.UTC)
    return max(0.0, at.timestamp() - now_ns / 1e9)
