"""Numbers and times as a trader reads them."""

from __future__ import annotations

import datetime as dt
import gettext
from collections.abc import Iterator
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchhamster.core.instruments import PriceSteps
from watchhamster.core.text import use_translations
from watchhamster.ui import format as fmt

KRW = PriceSteps(
    tuple(map(Decimal, ("0", "0.1", "1", "10", "100", "1000", "1000000"))),
    tuple(map(Decimal, ("0.0001", "0.001", "0.01", "0.1", "1", "5", "1000"))),
)
SEOUL = ZoneInfo("Asia/Seoul")
NEW_YORK = ZoneInfo("America/New_York")


class _Korean(gettext.NullTranslations):
    def pgettext(self, context: str, message: str) -> str:
        return {"3 K M B T": "4 만 억 조 경"}.get(message, message)

    def gettext(self, message: str) -> str:
        return {"{h} h {m} m": "{h}시간 {m}분"}.get(message, message)


@pytest.fixture
def korean() -> Iterator[None]:
    use_translations(_Korean())
    yield
    use_translations(gettext.NullTranslations())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (95_123_000.0, "95,123,000"),
        (12.3, "12.3"),
        (1.2, "1.20"),
        (0.0123, "0.0123"),
        (0.0, "0.0000"),
        (None, "…"),
        (float("nan"), "…"),
        (float("inf"), "…"),
    ],
)
def test_a_price_has_its_tick_s_decimals(value: float | None, text: str) -> None:
    assert fmt.price(value, KRW) == text


def test_a_price_without_a_table_keeps_every_digit() -> None:
    assert fmt.price(1234.5) == "1,234.5"
    assert fmt.price(1234.5, decimals=3) == "1,234.500"


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0123, "▲ +1.23 %"),
        (-0.0123, "▼ −1.23 %"),
        (0.0, "0.00 %"),
        (-0.00001, "0.00 %"),
        (12.0, "▲ +1,200.00 %"),
        (None, "…"),
    ],
)
def test_percent(fraction: float | None, text: str) -> None:
    assert fmt.percent(fraction) == text
    assert fmt.percent(fraction, arrow=False) == text.removeprefix("▲ ").removeprefix("▼ ")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1_234_000.0, "▲ 1,234,000"), (-5.0, "▼ 5"), (0.0, "0"), (None, "…")],
)
def test_a_change_says_its_direction_by_shape(value: float | None, text: str) -> None:
    assert fmt.change(value, KRW, at=95_000_000.0) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (123_456_789_012.0, "123B"),
        (1_234_567.0, "1.23M"),
        (12_345_678.0, "12.3M"),
        (999_600.0, "1.00M"),
        (999_400.0, "999K"),
        (999.0, "999"),
        (12.5, "12.5"),
        (-2_500_000.0, "−2.50M"),
        (5e18, "5,000,000T"),
        (0.0, "0"),
        (None, "…"),
    ],
)
def test_large_money_in_english(value: float | None, text: str) -> None:
    assert fmt.money(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (123_456_789_012.0, "1,235억"),
        (475_365_534_131.0, "4,754억"),
        (1_234_567_890_123.0, "1.23조"),
        (99_999_999.0, "1.00억"),
        (12_345.0, "1.23만"),
        (9_876.0, "9,876"),
    ],
)
def test_large_money_in_korean(korean: None, value: float, text: str) -> None:
    assert fmt.money(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12_345.678, "12,346"),
        (1.23456, "1.235"),
        (0.00123456, "0.001235"),
        (0.5, "0.5"),
        (100.0, "100"),
        (0.0, "0"),
        (1e-12, "0"),
        (None, "…"),
    ],
)
def test_a_size_is_trimmed(value: float | None, text: str) -> None:
    assert fmt.size(value) == text


def test_a_column_of_sizes_can_be_aligned() -> None:
    assert [fmt.size(v, decimals=3) for v in (1.0, 12.3456)] == ["1.000", "12.346"]


@given(st.floats(-1e12, 1e12).filter(lambda v: v == 0 or abs(v) > 1e-6))
def test_an_exact_number_reads_back_as_itself(value: float) -> None:
    text = fmt.exact(value).replace(",", "").replace(fmt.MINUS, "-")
    assert float(text) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12.9, "12 s"),
        (60, "1 m"),
        (3599, "59 m"),
        (11_400, "3 h 10 m"),
        (7200, "2 h"),
        (187_200, "2 d 4 h"),
        (172_800, "2 d"),
        (-3, "0 s"),
        (None, "…"),
    ],
)
def test_ages(seconds: float | None, text: str) -> None:
    assert fmt.age(seconds) == text


def test_ages_are_translated(korean: None) -> None:
    assert fmt.age(11_400) == "3시간 10분"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(6.2, "0:07"), (725, "12:05"), (11_405, "3:10:05"), (187_805, "2 d 4 h"), (-1, "0:00")],
)
def test_countdowns(seconds: float, text: str) -> None:
    assert fmt.countdown(seconds) == text


@pytest.mark.parametrize(("ms", "text"), [(38.4, "38 ms"), (1234.0, "1.2 s"), (None, "…")])
def test_latency(ms: float | None, text: str) -> None:
    assert fmt.latency(ms) == text


def test_times_are_told_in_a_zone_that_is_named() -> None:
    ns = 1_582_197_540_123_456_789  # 2020-02-20T11:19:00.123Z
    assert fmt.moment(ns, SEOUL) == "2020-02-20 20:19:00"
    assert fmt.clock(ns, NEW_YORK, seconds=False) == "06:19"
    assert fmt.zone_name(SEOUL, ns) == "KST"
    assert fmt.zone_name(NEW_YORK, ns) == "EST"
    assert fmt.zone_name(ZoneInfo("Asia/Dubai"), ns) == "UTC+04"
    assert fmt.clock(None, SEOUL) == fmt.date(None, SEOUL) == fmt.moment(None, SEOUL) == "…"


def test_the_computer_s_zone_is_a_zone() -> None:
    assert isinstance(fmt.local_zone(), dt.tzinfo)
    assert fmt.local(0, fmt.local_zone()).utcoffset() is not None
