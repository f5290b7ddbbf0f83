"""What a trade costs from the socket to the callback, beside cryptofeed and ccxt.pro, in one run over loopback.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install cryptofeed ccxt
    python tests/benchmarks/bench_wire.py --peers /tmp/peers/bin/python [--rounds 5]

At least 1.5 x cryptofeed, and 3 x with the extra `fast`. The server writes prebuilt binary frames as fast as TCP takes
them; CPU time is the client's alone. Every contender runs once a round in a process of its own.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from functools import cache

from bench_decode import measure, options, table  # type: ignore[import-not-found]
from market_frames import frames  # type: ignore[import-not-found]

MESSAGES = 60_000
BLOCK = 500


@cache
def _block(simple: bool) -> bytes:
    messages = frames("trade", BLOCK, simple=simple)
    return b"".join(struct.pack("!BBH", 0x82, 126, len(message)) + message for message in messages)


def _serve_one(peer: socket.socket) -> None:
    with peer:
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.recv(65536)
        lines = head.split(b"\r\n")
        key = next(line.split(b":", 1)[1].strip() for line in lines if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        peer.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        block = _block(b"/simple" in lines[0])
        try:
            for _ in range(MESSAGES // BLOCK + 1):
                peer.sendall(block)
            while peer.recv(65536):
                pass
        except OSError:
            pass  # it has had enough


def _serve(server: socket.socket) -> None:
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_serve_one, args=(peer,), daemon=True).start()


def main() -> None:
    """Measure and print."""
    given = options(__doc__)
    _block(True), _block(False)
    names = {"ours": MESSAGES, "ours [fast]": MESSAGES, "cryptofeed": MESSAGES // 2, "ccxt.pro": MESSAGES // 6}
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        port = str(server.getsockname()[1])
        costs = measure(names, given.rounds, given.peers, ("wire", "{name}", port, "{count}"))
    table("a trade, from the socket to the callback", costs)


if __name__ == "__main__":
    main()
