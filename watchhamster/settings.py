"""Where files live, and every setting, declared once.

A component gets the values it needs, never this table. Values are checked when they are set and again when they are
read from the store: one that no longer fits (an older version, an edit by hand) is named in `Settings.ignored` and its
default holds.
"""

from __future__ import annotations

import datetime as dt
import gettext
import locale
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias
from urllib.parse import urlsplit

import msgspec

from watchhamster.core.ports import StoreError, UsageError
from watchhamster.core.text import Text, use_translations

if TYPE_CHECKING:
    from watchhamster.core.sessions import Hours

Value: TypeAlias = bool | int | float | str
RESOURCES = Path(__file__).resolve().parent.parent / "resources"  # beside the package: an editable install
DOMAIN = "watchhamster"  # the gettext catalogue's name
LANGUAGES = ("ko", "en")


# ---------------------------------------------------------------- where files live


@dataclass(frozen=True)
class Home:
    """The one directory that holds every file the program writes."""

    root: Path

    @classmethod
    def find(cls, given: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> Home:
        """The home of `--home`, else of WATCHHAMSTER_HOME, else the platform's place for application data."""
        place = given or environment.get("WATCHHAMSTER_HOME")
        if not place:
            import platformdirs

            place = platformdirs.user_data_dir("WatchHamster", appauthor=False)
        return cls(Path(place).expanduser().absolute())

    @property
    def desk_db(self) -> Path:
        """Settings, tenants, rules, alerts, deliveries."""
        return self.root / "watchhamster.db"

    @property
    def market_db(self) -> Path:
        """Market history."""
        return self.root / "market.db"

    @property
    def logs(self) -> Path:
        """Rotating logs and the crash trail."""
        return self.root / "logs"

    @property
    def backups(self) -> Path:
        """Daily copies."""
        return self.root / "backups"

    @property
    def quarantine(self) -> Path:
        """Damaged files, kept for a person to look at."""
        return self.root / "quarantine"

    @property
    def vault(self) -> Path:
        """Encrypted credentials, where the system has no keyring."""
        return self.root / "credentials.vault"

    @property
    def lock(self) -> Path:
        """Held by the process that owns this home."""
        return self.root / "owner.lock"

    @property
    def socket(self) -> Path:
        """Where the owner listens."""
        return self.root / "owner.sock"

    @property
    def demo(self) -> Home:
        """The home of the built-in exchange and of replays, so that nothing invented is mixed into history."""
        return Home(self.root / "demo")

    def prepare(self) -> Home:
        """Make the directories, readable by this user only. Raises `StoreError` (`home_not_writable`)."""
        try:
            for folder in (self.root, self.logs, self.backups, self.quarantine):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise StoreError(
                "home_not_writable",
                Text("{path} cannot be used: {reason}.", {"path": str(self.root), "reason": error.strerror or error}),
                Text("Make it writable, or choose another with --home or WATCHHAMSTER_HOME."),
            ) from error
        return self


# ---------------------------------------------------------------- the settings


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: its name, type, default, meaning, and what it may be. `unit` follows the number on screen."""

    name: str
    default: Value
    description: Text
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    shape: Callable[[str], object] | None = None  # raises ValueError for text it cannot read
    example: str = ""  # of the shape
    at_start: bool = False  # read when the program starts: a new value holds from the next start on

    @property
    def type(self) -> type[bool] | type[int] | type[float] | type[str]:
        """The type of its values."""
        return type(self.default)

    def allowed(self) -> Text:
        """What it may be, as a sentence's end."""
        if self.choices:
            return Text("one of {choices}", {"choices": ", ".join(self.choices)})
        if self.type is bool:
            return Text("on or off")
        if self.type is str:
            return Text("text such as {example}", {"example": self.example}) if self.example else Text("text")
        return Text(
            "a number from {minimum} to {maximum} {unit}",
            {"minimum": self.minimum, "maximum": self.maximum, "unit": self.unit},
        )

    def check(self, value: object) -> Value:
        """The value in this setting's type. Raises `UsageError` (`bad_setting`)."""
        try:
            return self._read(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(
                "bad_setting",
                Text("{name} cannot be {value!r}.", {"name": self.name, "value": value}),
                Text("It is {allowed}.", {"allowed": self.allowed()}),
                name=self.name,
            ) from error

    def _read(self, value: object) -> Value:
        if self.type is bool:
            words = {
                "true": True,
                "on": True,
                "yes": True,
                "1": True,
                "false": False,
                "off": False,
                "no": False,
                "0": False,
            }
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.strip().lower() in words:
                return words[value.strip().lower()]
            raise ValueError(value)
        if self.type is str:
            if not isinstance(value, str) or len(value) > 1000:
                raise ValueError(value)
            text = value.strip()
            if self.choices and text not in self.choices:
                raise ValueError(value)
            if self.shape is not None and text:
                self.shape(text)
            return text
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(value)
        number = float(value)
        if self.type is int and number != int(number):
            raise ValueError(value)
        if (self.minimum is not None and not number >= self.minimum) or (
            self.maximum is not None and not number <= self.maximum
        ):
            raise ValueError(value)
        return int(number) if self.type is int else number


class QuietHours(msgspec.Struct, frozen=True):
    """A stretch of each day in which only critical alerts leave; it may cross midnight. Minutes of the zone's day."""

    start: int
    end: int  # exclusive
    zone: str

    def hold(self, at_ns: int) -> bool:
        """Whether the moment (UTC nanoseconds) is within them."""
        from zoneinfo import ZoneInfo

        local = dt.datetime.fromtimestamp(at_ns // 1_000_000_000, ZoneInfo(self.zone))
        minute = local.hour * 60 + local.minute
        if self.start <= self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def _span_of_day(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)", text)
    if match is None:
        raise ValueError(text)
    a, b, c, d = map(int, match.groups())
    if (a, b) == (c, d):
        raise ValueError(text)
    return a * 60 + b, c * 60 + d


def _time_of_day(text: str) -> None:
    if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text) is None:
        raise ValueError(text)


def _zone(text: str) -> None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, OSError) as error:  # an OSError for a directory's name such as "Asia"
        raise ValueError(text) from error


def _hours(text: str) -> dict[str, dict[dt.date, Hours]]:
    from watchhamster.core.sessions import hours_of  # calendars can wait for the first picture

    return hours_of(text)


def _url(text: str) -> None:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(text)


def _retention(timeframe: str, days: int) -> Setting:
    return Setting(
        name=f"retention_days_{timeframe}",
        default=days,
        minimum=0,
        maximum=36_500,
        unit="days",
        description=Text(
            "How long {timeframe} candles are kept; 0 keeps them until the size limit.", {"timeframe": timeframe}
        ),
    )


TABLE: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting(
            name="language",
            default="auto",
            choices=("auto", *LANGUAGES),
            description=Text("The language of every text; automatic takes the system's."),
        ),
        Setting(
            name="theme",
            default="system",
            choices=("system", "dark", "light"),
            description=Text("Dark or light, or as the desktop is."),
        ),
        Setting(
            name="colours",
            default="auto",
            choices=("auto", "korea", "west", "colour-blind"),
            description=Text("Colours of up and down; automatic goes by the language."),
        ),
        Setting(
            name="text_size",
            default=100,
            minimum=90,
            maximum=200,
            unit="%",
            description=Text("The size of every text."),
        ),
        Setting(name="compact_rows", at_start=True, default=False, description=Text("Lower rows in lists.")),
        Setting(name="flash", default=True, description=Text("A changed price flashes its cell for a moment.")),
        Setting(name="sounds", default=True, description=Text("Alerts make a sound.")),
        Setting(name="notifications", default=True, description=Text("Alerts show a desktop notification.")),
        Setting(
            name="quiet_hours",
            default="",
            shape=_span_of_day,
            example="19:01-05:59",
            description=Text("Hours in which only critical alerts leave; empty for none."),
        ),
        Setting(
            name="time_zone",
            default="Asia/Seoul",
            shape=_zone,
            example="Asia/Seoul",
            description=Text("The zone of times in messages, quiet hours and daily jobs."),
        ),
        Setting(name="close_to_tray", default=True, description=Text("Closing the window keeps watching in the tray.")),
        Setting(name="start_at_login", default=False, description=Text("Start, minimised, when you log in.")),
        Setting(
            name="upbit_url",
            at_start=True,
            default="",
            shape=_url,
            example="https://api.upbit.com",
            description=Text("Upbit's base address; empty for the usual one."),
        ),
        Setting(
            name="yahoo_url",
            at_start=True,
            default="",
            shape=_url,
            example="https://query2.finance.yahoo.com",
            description=Text("Yahoo Finance's base address; empty for the usual one."),
        ),
        Setting(
            name="trading_hours",
            default="",
            shape=_hours,
            example="XKRX 2026-11-19 10:00-16:30; AAPL 2026-12-24 closed",
            description=Text("Days on which a market or a symbol trades at other hours than the calendars say."),
        ),
        Setting(
            name="alert_lifetime_minutes",
            at_start=True,
            default=10,
            minimum=1,
            maximum=1440,
            unit="minutes",
            description=Text("A price alert that could not be sent for so long is dropped with a note."),
        ),
        Setting(
            name="fold_seconds",
            at_start=True,
            default=60,
            minimum=0,
            maximum=3600,
            unit="s",
            description=Text("Alerts about the same matter within this time go out as one message."),
        ),
        Setting(
            name="credentials_in",
            at_start=True,
            default="auto",
            choices=("auto", "keyring", "vault"),
            description=Text("Where secrets are kept; automatic takes the system's keyring, else an encrypted file."),
        ),
        Setting(
            name="history_limit_mb",
            default=4096,
            minimum=64,
            maximum=1_048_576,
            unit="MB",
            description=Text("The size of market history at which the oldest fine candles are dropped."),
        ),
        _retention("1s", 7),
        _retention("1m", 730),
        _retention("1h", 0),
        _retention("1d", 0),
        Setting(name="backup", default=True, description=Text("Copy settings, rules and alerts once a day.")),
        Setting(
            name="backup_time",
            default="03:00",
            shape=_time_of_day,
            example="03:00",
            description=Text("When the daily copy is made; after sleep it is made late, once."),
        ),
        Setting(
            name="backups_kept",
            default=7,
            minimum=1,
            maximum=365,
            unit="copies",
            description=Text("How many daily copies are kept."),
        ),
        Setting(
            name="alert_retention_days",
            default=365,
            minimum=1,
            maximum=36_500,
            unit="days",
            description=Text("How long alerts and their receipts are kept."),
        ),
        Setting(
            name="frame_rate",
            default=30,
            minimum=5,
            maximum=144,
            unit="Hz",
            description=Text("How often the window repaints what moves."),
        ),
    )
}


class SettingsStore(Protocol):
    """Rows of the settings that differ from their defaults."""

    def settings(self) -> Mapping[str, Value]:
        """Every stored row."""

    async def set_setting(self, name: str, value: Value | None) -> None:
        """Store one; None removes it."""


Observer: TypeAlias = Callable[[str, Value], None]


class Settings:
    """The settings in use. Reading is a dictionary look-up; a change is a row first, then its observers are told."""

    def __init__(self, store: SettingsStore) -> None:
        self._store = store
        self._observers: list[tuple[frozenset[str], Observer]] = []
        self._values, self.ignored = self._read()  # ignored: unknown to this version or no longer allowed

    def _read(self) -> tuple[dict[str, Value], dict[str, object]]:
        values: dict[str, Value] = {}
        ignored: dict[str, object] = {}
        for name, value in self._store.settings().items():
            try:
                values[name] = _declared(name).check(value)
            except UsageError:
                ignored[name] = value
        return values, ignored

    def reload(self) -> None:
        """The rows were replaced (a backup was restored): take them over and tell the observers what is other now."""
        before = {name: self.get(name) for name in TABLE}
        self._values, self.ignored = self._read()
        for name, value in before.items():
            if self.get(name) != value:
                self._tell(name, self.get(name))

    def get(self, name: str) -> Value:
        """A value, its default where none was set. Raises `UsageError` (`unknown_setting`)."""
        return self._values.get(name, _declared(name).default)

    def text(self, name: str) -> str:
        """A value of a text setting."""
        value = self.get(name)
        assert isinstance(value, str), name
        return value

    def number(self, name: str) -> int:
        """A value of a whole-number setting."""
        value = self.get(name)
        assert isinstance(value, int) and not isinstance(value, bool), name
        return value

    def on(self, name: str) -> bool:
        """A value of an on-off setting."""
        value = self.get(name)
        assert isinstance(value, bool), name
        return value

    def __iter__(self) -> Iterator[tuple[Setting, Value]]:
        """Every setting with its value, in the table's order."""
        return ((setting, self.get(name)) for name, setting in TABLE.items())

    async def set(self, name: str, value: object) -> None:
        """Check, store, then tell the observers. Raises `UsageError` (`unknown_setting`, `bad_setting`)."""
        setting = _declared(name)
        checked = setting.check(value)
        if checked == self.get(name):
            return
        await self._store.set_setting(name, None if checked == setting.default else checked)
        self._values[name] = checked
        self._tell(name, checked)

    async def reset(self, name: str) -> None:
        """Back to the default."""
        await self.set(name, _declared(name).default)

    def observe(self, observer: Observer, *names: str) -> Callable[[], None]:
        """Call `observer(name, value)` after each change of these settings (of all, if none is named).

        Returns what ends it.
        """
        for name in names:
            _declared(name)
        entry = (frozenset(names), observer)
        self._observers.append(entry)
        return lambda: self._observers.remove(entry) if entry in self._observers else None

    def _tell(self, name: str, value: Value) -> None:
        errors = []
        for names, observer in list(self._observers):
            if not names or name in names:
                try:
                    observer(name, value)
                except Exception as error:  # each observer fails alone; the setting holds
                    errors.append(error)
        if errors:
            raise ExceptionGroup(f"observers of the setting {name}", errors)

    # what several parts derive in the same way

    def language(self) -> str:
        """The language in use: auto resolved."""
        chosen = self.text("language")
        return system_language() if chosen == "auto" else chosen

    def colours(self) -> str:
        """`korea`, `west` or `colour-blind`: auto resolved by the language."""
        chosen = self.text("colours")
        if chosen != "auto":
            return chosen
        return "korea" if self.language() == "ko" else "west"

    def quiet_hours(self) -> QuietHours | None:
        """The quiet hours, if there are any."""
        text = self.text("quiet_hours")
        return QuietHours(*_span_of_day(text), self.text("time_zone")) if text else None

    def trading_hours(self) -> dict[str, dict[dt.date, Hours]]:
        """The user's word on trading hours: market code or symbol -> local day -> hours."""
        return _hours(self.text("trading_hours"))

    def retention_days(self) -> dict[str, int]:
        """Days each timeframe is kept, 0 for as long as there is room."""
        prefix = "retention_days_"
        return {name.removeprefix(prefix): self.number(name) for name in TABLE if name.startswith(prefix)}

    def venue_url(self, venue: str, environment: Mapping[str, str] = os.environ) -> str | None:
        """The base address asked for: by WATCHHAMSTER_<VENUE>_URL, else by the setting; None for the venue's own."""
        return venue_url(venue, environment) or self.text(f"{venue}_url").rstrip("/") or None


def _declared(name: str) -> Setting:
    try:
        return TABLE[name]
    except KeyError:
        import difflib

        near = difflib.get_close_matches(name, TABLE, n=1)
        raise UsageError(
            "unknown_setting",
            Text("There is no setting {name!r}.", {"name": name}),
            Text("Did you mean {near}?", {"near": near[0]})
            if near
            else Text("Known ones are {names}.", {"names": ", ".join(TABLE)}),
        ) from None


def venue_url(venue: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The base address of WATCHHAMSTER_<VENUE>_URL without a final slash, None where it is not set.

    Raises `UsageError` (`bad_url`).
    """
    variable = f"WATCHHAMSTER_{venue.upper()}_URL"
    address = environment.get(variable, "").strip()
    if not address:
        return None
    try:
        _url(address)
    except ValueError:
        raise UsageError(
            "bad_url",
            Text("{variable} is {address!r}, which is not a base address.", {"variable": variable, "address": address}),
            Text("Write it like http://127.0.0.1:8080/upbit."),
        ) from None
    return address.rstrip("/")


# ---------------------------------------------------------------- language


def system_language(environment: Mapping[str, str] = os.environ) -> str:
    """The first of our languages that the system names, else English."""
    chosen = environment.get("LC_ALL") or environment.get("LC_MESSAGES") or environment.get("LANG") or ""
    wished = environment.get("LANGUAGE", "").split(":") if chosen.split(".")[0] not in ("C", "POSIX") else []
    for name in [*wished, chosen or locale.getlocale()[0] or ""]:
        if name.lower().startswith(LANGUAGES):  # ko_KR.UTF-8; Windows writes Korean_Korea
            return name[:2].lower()
    return "en"


def load_translations(language: str = "auto", folder: Path = RESOURCES / "locale") -> str:
    """Switch every text to a language and return its code. A missing catalogue leaves the English of the source."""
    code = system_language() if language == "auto" else language
    use_translations(gettext.translation(DOMAIN, folder, languages=[code], fallback=True))
    return code
