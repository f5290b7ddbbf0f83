"""Settings are declared once, checked both ways, and switch at once; every file is below the home."""

from __future__ import annotations

import datetime as dt
import re
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from watchhamster.core.ports import StoreError, UsageError, WatchHamsterError
from watchhamster.core.text import _, say, use_translations
from watchhamster.settings import (
    TABLE,
    Home,
    QuietHours,
    Settings,
    Value,
    load_translations,
    system_language,
    venue_url,
)


class Rows:
    """The rows of settings, in memory."""

    def __init__(self, **rows: Value) -> None:
        self.rows: dict[str, Value] = dict(rows)

    def settings(self) -> Mapping[str, Value]:
        return self.rows

    async def set_setting(self, name: str, value: Value | None) -> None:
        if value is None:
            self.rows.pop(name, None)
        else:
            self.rows[name] = value


def test_every_default_is_allowed_and_every_setting_explains_itself() -> None:
    for setting in TABLE.values():
        assert setting.check(setting.default) == setting.default
        assert str(setting.description).endswith(".")
        assert str(setting.allowed())
        assert re.fullmatch(r"[a-z0-9_A-Z]+", setting.name)


async def test_a_change_is_stored_first_then_told_and_survives_a_restart() -> None:
    rows = Rows()
    settings = Settings(rows)
    seen: list[tuple[str, Value, object]] = []
    stop = settings.observe(lambda name, value: seen.append((name, value, rows.rows.get(name))), "theme", "text_size")
    await settings.set("theme", "dark")
    await settings.set("text_size", "150")
    await settings.set("sounds", "off")
    assert seen == [("theme", "dark", "dark"), ("text_size", 150, 150)]
    again = Settings(rows)
    assert (again.text("theme"), again.number("text_size"), again.on("sounds")) == ("dark", 150, False)
    stop()
    await settings.reset("theme")
    assert len(seen) == 2
    assert "theme" not in rows.rows
    await settings.set("sounds", False)
    assert settings.on("sounds") is False


async def test_setting_the_same_value_tells_nobody() -> None:
    settings = Settings(Rows())
    seen: list[str] = []
    settings.observe(lambda name, value: seen.append(name))
    await settings.set("theme", "system")
    assert seen == []


async def test_one_failing_observer_spares_the_others() -> None:
    settings = Settings(Rows())
    seen: list[Value] = []

    def fail(name: str, value: Value) -> None:
        raise RuntimeError("broken")

    settings.observe(fail)
    settings.observe(lambda name, value: seen.append(value))
    with pytest.raises(ExceptionGroup):
        await settings.set("theme", "dark")
    assert seen == ["dark"]
    assert settings.text("theme") == "dark"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("theme", "pink", "system, dark, light"),
        ("text_size", 89, "90 to 200 %"),
        ("text_size", 100.5, "90 to 200 %"),
        ("text_size", float("nan"), "90 to 200 %"),
        ("text_size", float("inf"), "90 to 200 %"),
        ("text_size", True, "90 to 200 %"),
        ("sounds", "maybe", "on or off"),
        ("quiet_hours", "25:00-01:00", "19:01-05:59"),
        ("quiet_hours", "07:00-07:00", "19:01-05:59"),
        ("time_zone", "Mars/Olympus", "Asia/Seoul"),
        ("time_zone", "Asia", "Asia/Seoul"),
        ("upbit_url", "ftp://x", "https://api.upbit.com"),
        ("backup_time", "3", "03:00"),
        ("language", None, "auto, ko, en"),
    ],
)
async def test_a_wrong_value_is_refused_and_named(name: str, value: object, says: str) -> None:
    rows = Rows()
    with pytest.raises(UsageError) as caught:
        await Settings(rows).set(name, value)
    assert caught.value.code == "bad_setting"
    assert name in str(caught.value.text) and repr(value) in str(caught.value.text)
    assert says in str(caught.value.hint)
    assert rows.rows == {}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        Settings(Rows()).get("text_sise")
    assert caught.value.code == "unknown_setting"
    assert "text_size" in str(caught.value.hint)


def test_a_stored_value_that_no_longer_fits_leaves_the_default_and_is_named() -> None:
    settings = Settings(Rows(theme="sepia", text_size=120, from_the_future=3))
    assert settings.text("theme") == "system"
    assert settings.number("text_size") == 120
    assert settings.ignored == {"theme": "sepia", "from_the_future": 3}


@given(
    st.sampled_from(sorted(TABLE)),
    st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.binary()),
)
def test_a_check_gives_an_allowed_value_of_the_type_or_a_usage_error(name: str, value: object) -> None:
    setting = TABLE[name]
    try:
        checked = setting.check(value)
    except UsageError:
        return
    assert type(checked) is setting.type
    assert setting.check(checked) == checked


def test_colours_follow_the_language() -> None:
    assert Settings(Rows(language="ko")).colours() == "korea"
    assert Settings(Rows(language="en")).colours() == "west"
    assert Settings(Rows(language="ko", colours="colour-blind")).colours() == "colour-blind"


def test_quiet_hours_cross_midnight_in_their_zone() -> None:
    quiet = Settings(Rows(quiet_hours="19:01-06:00", time_zone="Asia/Seoul")).quiet_hours()
    assert quiet == QuietHours(19 * 60 + 1, 6 * 60, "Asia/Seoul")
    seoul_midnight = 1_763_651_600  # 2025-11-21 00:13:20 KST
    at = {0: True, 5 * 3600: True, 6 * 3600: False, 12 * 3600: False, 19 * 3600: True}
    assert {after: quiet.hold((seoul_midnight + after) * 10**9) for after in at} == at
    assert Settings(Rows()).quiet_hours() is None
    assert QuietHours(60, 120, "UTC").hold(90 * 60 * 10**9)
    assert not QuietHours(60, 120, "UTC").hold(120 * 60 * 10**9)


def test_retention_is_a_table() -> None:
    assert Settings(Rows(retention_days_1s=3)).retention_days()["1s"] == 3


def test_the_home_is_the_argument_else_the_variable_else_the_platforms(tmp_path: Path) -> None:
    assert Home.find(tmp_path / "a", {"WATCHHAMSTER_HOME": "/b"}).root == tmp_path / "a"
    assert Home.find(None, {"WATCHHAMSTER_HOME": str(tmp_path)}).desk_db == tmp_path / "watchhamster.db"
    assert "WatchHamster" in str(Home.find(None, {}).root)


def test_the_home_is_made_for_this_user_alone_and_holds_everything(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home").prepare()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    home.demo.prepare()
    paths = [home.desk_db, home.market_db, home.logs, home.backups, home.quarantine, home.lock, home.socket, home.vault]
    assert all(path.is_relative_to(home.root) for path in [*paths, home.demo.market_db])
    assert home.demo.market_db != home.market_db


def test_a_home_that_cannot_be_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        Home(tmp_path / "file" / "home").prepare()
    assert caught.value.code == "home_not_writable"
    assert "--home" in str(caught.value.hint)


def test_a_venues_address_comes_from_the_environment_before_the_setting() -> None:
    environment = {"WATCHHAMSTER_UPBIT_URL": "http://127.0.0.1:9/upbit/"}
    assert venue_url("upbit", environment) == "http://127.0.0.1:9/upbit"
    settings = Settings(Rows(upbit_url="https://example.com/"))
    assert settings.venue_url("upbit", environment) == "http://127.0.0.1:9/upbit"
    assert settings.venue_url("upbit", {}) == "https://example.com"
    assert Settings(Rows()).venue_url("upbit", {}) is None
    with pytest.raises(WatchHamsterError, match="WATCHHAMSTER_UPBIT_URL"):
        venue_url("upbit", {"WATCHHAMSTER_UPBIT_URL": "127.0.0.1:9"})


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "fr:ko:en"}, "ko"),
        ({"LANGUAGE": "ko", "LC_ALL": "C"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
    ],
)
def test_the_systems_language(environment: dict[str, str], language: str) -> None:
    assert system_language(environment) == language


def test_a_catalogue_switches_every_text_and_a_missing_one_leaves_english(tmp_path: Path) -> None:
    import gettext
    import io

    folder = tmp_path / "ko" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    text = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "on or off"\nmsgstr "켬 또는 끔"\n'
    with (folder / "watchhamster.mo").open("wb") as file:
        write_mo(file, read_po(io.BytesIO(text.encode())))
    try:
        assert load_translations("ko", tmp_path) == "ko"
        assert _("on or off") == "켬 또는 끔"
        assert say(TABLE["sounds"].allowed()) == "켬 또는 끔"
        assert load_translations("en", tmp_path) == "en"
        assert _("on or off") == "on or off"
    finally:
        use_translations(gettext.NullTranslations())


def test_trading_hours_are_read_and_a_wrong_day_is_named() -> None:
    hours = Settings(Rows(trading_hours="XKRX 2026-11-19 10:00-16:30; AAPL 2026-12-24 closed;")).trading_hours()
    day, eve = dt.date(2026, 11, 19), dt.date(2026, 12, 24)
    assert hours == {"XKRX": {day: (("regular", 600, 990),)}, "AAPL": {eve: ()}}
    for text, named in (
        ("XKRX 2026-12-24 closed; XNYS 2026-02-30 closed", "2026-02-30"),
        ("XKRX 2026-12-24 16:00-09:00", "2026-12-24"),
        ("XKRX 2026-12-24 shut", "2026-12-24"),
        ("XKRX 2026-12-24", "XKRX 2026-12-24"),
        ("closed", "closed"),
    ):
        with pytest.raises(UsageError) as refused:
            TABLE["trading_hours"].check(text)
        assert refused.value.code == "bad_hours" and named in str(refused.value) and refused.value.hint is not None
