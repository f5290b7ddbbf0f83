"""The stores, the settings and the venues of one home: what every command and the engine stand on.

Commands that only read open the stores beside whoever owns the home (`reading`); a command that writes owns the home
while it works (`writing`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import ssl
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from watchhamster import __version__
from watchhamster.core.ports import (
    Calendared,
    Clock,
    StoreError,
    UsageError,
    Venue,
    WatchHamsterError,
    Wire,
)
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text
from watchhamster.credentials import Absent, Keyring, Vault, find_credentials, read_passphrase
from watchhamster.engine.backfill import Backfill
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.limits import Limiter
from watchhamster.engine.owner import Owner
from watchhamster.engine.routing import Caller
from watchhamster.monitor.status import State, StatusNode, node, worst
from watchhamster.notify.channels import (
    BUILT_IN,
    NEEDS,
    AnyChannel,
    ChannelConfig,
    ChannelType,
    UnreadyChannel,
    make_channel,
)
from watchhamster.notify.desktop import Show
from watchhamster.notify.http import Poster, check_url
from watchhamster.notify.webhook import new_key
from watchhamster.settings import Home, Settings
from watchhamster.storage.desk import DeskStore
from watchhamster.storage.market import MarketStore, VerifyReport
from watchhamster.venues.upbit import Upbit
from watchhamster.venues.wire import HttpWire
from watchhamster.venues.yahoo import Yahoo

log = logging.getLogger(__name__)

ONE_SHOT_S = 5.0  # a command that asks once waits so long for a venue
VENUES: Final[Mapping[str, Callable[[], Venue]]] = {"upbit": Upbit, "yahoo": Yahoo}
FEES: Final = {"upbit": 0.0005, "yahoo": 0.0}
USER_AGENT = f"WatchHamster/{__version__}"
CHANNELS_KEY = "channels"
OWN_CHANNELS: Final[Mapping[str, ChannelType]] = {"webhook": "webhook", "dooray": "dooray"}  # of the user's making


def find_home(given: Path | None = None) -> Home:
    """The home of `--home`, of WATCHHAMSTER_HOME, or the platform's."""
    return Home.find(given)


class Services:
    """The stores, the settings and the venues of one home."""

    def __init__(self, home: Home, clock: Clock, *, wires: Mapping[str, Wire] | None = None) -> None:
        self.home = home
        self.clock = clock
        self.desk = DeskStore(home.desk_db, clock)
        self.market = MarketStore(home.market_db, clock)
        self.wires: dict[str, Wire] = dict(wires or {})
        self._urls: dict[str, str] = {}
        self._callers: dict[str, Caller] = {}
        self._backfill: Backfill | None = None
        self._settings: Settings | None = None
        self._credentials: Keyring | Vault | None = None
        self.poster = Poster()

    @property
    def settings(self) -> Settings:
        """The settings of this home."""
        if self._settings is None:
            self._settings = Settings(self.desk)
        return self._settings

    def open(self) -> None:
        """Open both files for writing; the caller owns the home."""
        self.home.prepare()
        self.desk.open()
        self.market.open()

    async def close(self) -> None:
        """Flush and close everything."""
        for wire in self.wires.values():
            await wire.close()
        await self.poster.close()
        await asyncio.to_thread(self._close_files)

    def _close_files(self) -> None:
        self.market.close()
        self.desk.close()

    def url(self, venue: str) -> str:
        """A venue's base URL: of the environment, the settings, or its own."""
        return self._urls.get(venue) or self.settings.venue_url(venue) or venue_named(venue).url

    def use_url(self, venue: str, url: str) -> None:
        """Use another base URL: the built-in exchange's."""
        self._urls[venue] = url

    def wire(self, venue: str) -> Wire:
        """A venue's sockets."""
        if venue not in self.wires:
            self.wires[venue] = HttpWire(self.url(venue), venue, USER_AGENT, trust())
        return self.wires[venue]

    def caller(self, venue: str) -> Caller:
        """The one way to a venue's REST interface. Raises `UsageError` (`unknown_venue`)."""
        if venue not in self._callers:
            spec = venue_named(venue)
            if isinstance(spec, Calendared):
                keep_hours = spec.keep_hours
                keep_hours(self.settings.trading_hours())
                self.settings.observe(lambda *_: keep_hours(self.settings.trading_hours()), "trading_hours")
            bans = self.desk.get(f"bans:{venue}")
            limiter = Limiter(
                self.clock,
                spec.quotas,
                bans=msgspec.json.decode(bans, type=dict[str, int]) if bans else None,
                on_ban=lambda state: self._keep_bans(venue, state),
            )
            self._callers[venue] = Caller(spec, self.wire(venue), limiter)
        return self._callers[venue]

    def _keep_bans(self, venue: str, state: Mapping[str, int]) -> None:
        """A block outlives a restart."""
        with suppress(RuntimeError):  # no loop: a one-shot command is ending
            loop = asyncio.get_running_loop()
            task = loop.create_task(self.desk.put(f"bans:{venue}", msgspec.json.encode(state)))
            _pending.add(task)
            task.add_done_callback(_pending.discard)

    def backfill(self) -> Backfill:
        """History, store first; one for all, so that nobody fetches what another just has."""
        if self._backfill is None:
            self._backfill = Backfill(self.caller, self.market, self.clock)
        return self._backfill

    # -- channels

    def channel_configs(self) -> list[ChannelConfig]:
        """The built-in channels and the user's own."""
        stored = self.desk.get(CHANNELS_KEY)
        own = msgspec.json.decode(stored, type=list[ChannelConfig]) if stored else []
        return [*BUILT_IN, *own]

    async def channels(self, show: Show | None = None) -> list[AnyChannel]:
        """The channels, with their secrets. One that cannot be made yet holds its alerts and says why.

        `show` is how a window shows desktop notifications.
        """
        zone, fold_s = self.settings.text("time_zone"), float(self.settings.number("fold_seconds"))
        ready: list[AnyChannel] = []
        for config in self.channel_configs():
            if not config.enabled:
                continue
            try:
                secrets = await self._secrets(config)
                made = make_channel(config, secrets, self.poster, self.clock, zone, fold_s=fold_s, show=show)
            except WatchHamsterError as error:
                log.warning("channel %s: %s", config.name, error)
                made = UnreadyChannel(config.name, error.text)
            ready.append(made)
        return ready

    async def _secrets(self, config: ChannelConfig) -> dict[str, Secret]:
        if not config.secrets:
            return {}
        place = await self.credentials()
        found = {}
        for purpose, name in config.secrets.items():
            with suppress(Absent):
                found[purpose] = await place.get(config.tenant, name)
        return found

    async def keep_channel(
        self, name: str, type: str, url: Secret, key: Secret | None = None, *, local: bool = False
    ) -> None:
        """Add or change a channel of the user's own. Its secrets go to the keyring; its row only names them.

        A webhook without a signing key keeps the one it had, or gets a new one. Raises `UsageError` (`bad_channel`,
        `bad_url`, `bad_signing_key`) and what the keyring raises.
        """
        kind = OWN_CHANNELS.get(type)
        if kind is None:
            raise UsageError(
                "bad_channel",
                Text("There is no channel type {type!r}.", {"type": type}),
                Text("Write webhook or dooray."),
            )
        if name in {config.name for config in BUILT_IN}:
            raise UsageError("bad_channel", Text("{name} is built in.", {"name": name}), Text("Choose another name."))
        purposes = NEEDS[kind]
        secrets = {purpose: f"{name}-{purpose}" for purpose in purposes}
        config = ChannelConfig(name=name, type=kind, secrets=secrets, local=local)
        check_url(url, local=local)
        given = {"url": url}
        if "key" in purposes:
            given["key"] = key or (await self._secrets(config)).get("key") or new_key()
        make_channel(config, given, self.poster, self.clock)
        place = await self.credentials()
        for purpose, value in given.items():
            await place.set(config.tenant, secrets[purpose], value)
        own = [other for other in self.channel_configs() if other not in BUILT_IN and other.name != name]
        await self.desk.put(CHANNELS_KEY, msgspec.json.encode([*own, config]))

    async def remove_channel(self, name: str) -> None:
        """Forget a channel and its secrets. Raises `UsageError` (`unknown_channel`)."""
        own = {config.name: config for config in self.channel_configs() if config not in BUILT_IN}
        config = own.pop(name, None)
        if config is None:
            raise UsageError("unknown_channel", Text("There is no channel {name!r}.", {"name": name}))
        place = await self.credentials()
        for entry in config.secrets.values():
            with suppress(Absent):
                await place.remove(config.tenant, entry)
        await self.desk.put(CHANNELS_KEY, msgspec.json.encode(list(own.values())))

    async def credentials(self) -> Keyring | Vault:
        """Where this home keeps its secrets: found once. A vault is unlocked by WATCHHAMSTER_VAULT_FD, if that is set.

        A vault that was never made is made with that passphrase; without one, using it raises `Locked`.
        """
        if self._credentials is None:
            where: Any = self.settings.text("credentials_in")  # one of its choices
            self._credentials = await find_credentials(self.home.vault, where)
        place = self._credentials
        descriptor = os.environ.get("WATCHHAMSTER_VAULT_FD")
        if isinstance(place, Vault) and place.locked and descriptor:
            passphrase = read_passphrase(int(descriptor))
            del os.environ["WATCHHAMSTER_VAULT_FD"]  # it has been read to its end
            await (place.unlock(passphrase) if place.exists else place.create(passphrase))
        return place


_pending: set[asyncio.Task[None]] = set()


def venue_named(name: str) -> Venue:
    """A venue's description. Raises `UsageError` (`unknown_venue`)."""
    make = VENUES.get(name)
    if make is None:
        raise UsageError(
            "unknown_venue",
            Text("{venue!r} is not a venue here.", {"venue": name}),
            Text("Known ones are {names}.", {"names": ", ".join(VENUES)}),
        )
    return make()


def trust() -> bool | ssl.SSLContext:
    """The system's authorities, and one of the user's own (WATCHHAMSTER_CA): the simulator's, or a company's proxy."""
    authority = os.environ.get("WATCHHAMSTER_CA")
    if not authority:
        return True
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise UsageError(
            "bad_ca",
            Text("WATCHHAMSTER_CA names {path}, which cannot be read: {reason}.", {"path": authority, "reason": error}),
            Text("Name a PEM file, or unset it."),
        ) from error


@asynccontextmanager
async def writing(home: Home) -> AsyncIterator[Services]:
    """The home's files for writing, by a command that owns the home while it works. Raises `Owned`."""
    home.prepare()
    owner = Owner.claim(home)
    services = Services(home, SystemClock())
    try:
        services.open()
        yield services
    finally:
        await services.close()
        owner.release()


@contextmanager
def reading(home: Home) -> Iterator[MarketStore]:
    """The candles, beside whoever writes them."""
    store = MarketStore(home.market_db, SystemClock())
    store.open(read_only=True)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def reading_desk(home: Home) -> Iterator[DeskStore]:
    """The rows people made, beside whoever writes them."""
    store = DeskStore(home.desk_db, SystemClock())
    store.open(read_only=True)
    try:
        yield store
    finally:
        store.close()


async def verify(services: Services, *, network: bool) -> VerifyReport:
    """Check every stored candle, put damage aside, and with `network` ask the venues for it again."""
    backfill = services.backfill()

    async def refill(instrument: str, timeframe: str, since_ns: int, until_ns: int) -> None:
        await backfill.candles(instrument, timeframe, since_ns, until_ns)

    return await services.market.verify(refill if network else None)


async def back_up(services: Services, path: Path) -> dict[str, Any]:
    """Both files of the home in one zip, written beside and moved into place. No secret is in either."""
    with tempfile.TemporaryDirectory(dir=services.home.root) as folder:
        desk, candles_, packed = Path(folder, "watchhamster.db"), Path(folder, "market.db"), Path(folder, "backup.zip")
        await services.desk.backup(desk)
        await asyncio.to_thread(services.market.backup, candles_)

        def pack() -> int:
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.write(desk, desk.name)
                archive.write(candles_, candles_.name)
            try:
                shutil.move(packed, path)
            except OSError as error:
                raise StoreError(
                    "cannot_write",
                    Text("{path} cannot be written: {reason}.", {"path": str(path), "reason": error.strerror or error}),
                    Text("Choose a folder you may write to, with enough room."),
                ) from error
            return path.stat().st_size

        return {"file": str(path), "bytes": await asyncio.to_thread(pack)}


async def restore(services: Services, path: Path) -> dict[str, Any]:
    """Put both files of a backup in place; what they replace is kept. Raises `StoreError` and changes nothing."""
    with tempfile.TemporaryDirectory(dir=services.home.root) as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in ("watchhamster.db", "market.db"):
                    archive.extract(name, folder)
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise StoreError(
                "bad_backup",
                Text("{path} is not a backup of WatchHamster: {reason}.", {"path": str(path), "reason": error}),
                Text("Give a file that data backup has written."),
            ) from error
        kept = await services.desk.restore(Path(folder, "watchhamster.db"))
        await asyncio.to_thread(services.market.restore, Path(folder, "market.db"))
    services.settings.reload()
    return {"kept": str(kept.parent)}


def storage_status(services: Services) -> StatusNode:
    """How the files are: what waits, what was put aside, how near the limit they are."""
    state = services.market.state
    lamps: dict[str, State] = {
        "ok": "ok",
        "behind": "warning",
        "locked": "warning",
        "full": "critical",
        "failed": "critical",
    }
    size_mb = services.market.size() / 1e6
    limit_mb = services.settings.number("history_limit_mb")
    near: State = "warning" if size_mb > 0.95 * limit_mb else "ok"
    children = [
        node(
            "history",
            worst([lamps.get(state.state, "warning"), near]),
            value=f"{size_mb:,.0f} MB",
            since_ns=state.since_ns,
            detail=state.detail or Text("of {limit} MB", {"limit": f"{limit_mb:,}"}),
        ),
        *(
            node("new scale", "ok", detail=notice.text, since_ns=notice.at_ns)
            if notice.code == "rescaled"
            else node("damaged file", "warning", detail=notice.text, since_ns=notice.at_ns)
            for notice in (*services.market.notices, *services.desk.notices)
        ),
    ]
    return node("storage", None, *children)
