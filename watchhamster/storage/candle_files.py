"""Candles from files and into files: CSV, recorded REST answers, parquet, JSON lines.

What is read is checked row by row: good rows are stored, the others are named with their line and the reason. Numbers
are kept as float64 and printed in its shortest form, so a file that went in comes out with the same values.
"""

from __future__ import annotations

import csv
import datetime as dt
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from watchhamster.core.instruments import instrument_of, split_instrument
from watchhamster.core.market import Action, Candle, to_json
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import COMMON, SECOND_NS, Timeframe, timeframe
from watchhamster.storage.market import Counts, Extra, MarketStore

ImportFormat = Literal["auto", "upbit-rest", "binance-rest", "yahoo-chart", "csv"]
ExportFormat = Literal["csv", "parquet", "json"]

IMPORT_FORMATS: tuple[str, ...] = ("auto", "upbit-rest", "binance-rest", "yahoo-chart", "csv")
EXPORT_FORMATS: tuple[str, ...] = ("csv", "parquet", "json")
COLUMNS = ("time", "open", "high", "low", "close", "volume", "value")
EXTRA_COLUMNS = ("adj close", "dividends", "stock splits", "capital gains")

_TIME_NAMES = frozenset(("time", "date", "datetime", "timestamp", ""))
_REQUIRED = ("open", "high", "low", "close", "volume")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_UNITS_NS = ((11, SECOND_NS), (14, 1_000_000), (17, 1_000))  # digits of epoch seconds, milliseconds, microseconds
_YEARS = range(1900, 2200)
_ROWS_TO_JUDGE = 10


class RestRows(Protocol):
    """What a venue's parser makes of a recorded answer."""

    @property
    def candles(self) -> Sequence[Candle]:
        """Closed candles of one series, oldest first."""

    @property
    def rejected(self) -> Sequence[tuple[int, str]]:
        """Rows that are none: position (from 0) and reason."""

    @property
    def extras(self) -> Sequence[tuple[int, float | None, float | None, float | None, float | None]]:
        """What is said of bars besides: open_ns, adjusted close, dividend, split, distributed gain."""

    @property
    def actions(self) -> Sequence[Action]:
        """Distributions and splits of that time."""


RestParser = Callable[[bytes], RestRows]
"""Reads a recorded REST answer that names its own market and unit. Raises `BadFrame` when it is no answer."""


class RejectedRow(msgspec.Struct, frozen=True):
    """A row that was not stored. `line` counts from 1: lines of a CSV with its header, rows of a REST answer."""

    line: int
    reason: Text


class Imported(msgspec.Struct, frozen=True):
    """What came of one file. `read` = new + same + changed + rejected."""

    file: str
    instrument: str
    timeframe: str
    read: int
    counts: Counts
    rejected: tuple[RejectedRow, ...] = ()

    def line(self) -> dict[str, str | int]:
        """The object that `data import --json` prints."""
        return {
            "file": self.file,
            "read": self.read,
            "new": self.counts.new,
            "same": self.counts.same,
            "changed": self.counts.changed,
            "rejected": len(self.rejected),
        }


def import_file(
    store: MarketStore,
    path: Path,
    *,
    venue: str = "upbit",
    instrument: str | None = None,
    timeframe: str | None = None,
    timezone: str | None = None,
    format: str = "auto",
    complete: bool = False,
    sessions: bool = False,
    parsers: Mapping[str, RestParser] | None = None,
) -> Imported:
    """Store the candles of one file, with origin `import`; overlapping files do not duplicate.

    `parsers` reads REST answers, by format. `timezone` (a name such as Asia/Seoul, or +09:00) is for times that carry
    no offset. `complete` says that a CSV leaves out only what had no trade. `sessions`: days of the venue begin at an
    exchange's own hour, so their candles, and those of an hour, need not begin at a whole one of UTC.

    Raises `UsageError`: no_file, unknown_format, bad_header, needs_timezone, bad_timezone, needs_instrument,
    needs_timeframe, wrong_timeframe, wrong_instrument, no_rows; `BadFrame` from a parser; `StoreError`. Except for the
    last, nothing was stored then.
    """
    try:
        body = path.read_bytes()
    except OSError as error:
        raise UsageError(
            "no_file",
            Text("{path} cannot be read: {reason}.", {"path": str(path), "reason": error.strerror or str(error)}),
            Text("Give the path of a candle file."),
        ) from error
    chosen = _format_of(body, path) if format == "auto" else format
    asked = None if instrument is None else instrument_of(*split_instrument(instrument, venue))
    frame = None if timeframe is None else _frame(timeframe)
    if chosen == "csv":
        series, rows = _read_csv(body, path, asked, frame, timezone, sessions)
    elif chosen in IMPORT_FORMATS and chosen in (parsers or {}):
        assert parsers is not None
        series, rows = _read_rest(parsers[chosen], body, path, asked, frame)
    else:
        raise UsageError(
            "unknown_format",
            Text("{path}: files of format {format} cannot be read here.", {"path": str(path), "format": chosen}),
            Text("Known ones are {names}.", {"names": ", ".join(("auto", "csv", *(parsers or {})))}),
        )
    name, frame = series
    marks = []
    # A rejected row may be the very candle that is missing, so its absence then proves nothing.
    if rows.candles and not rows.rejected and (complete or chosen != "csv"):
        opens = [candle.open_ns for candle in rows.candles]
        marks.append((name, frame.name, min(opens), frame.next_ns(max(opens))))
    extras = [(name, frame.name, extra) for extra in rows.extras]
    counts = store.write(rows.candles, marks, extras, rows.actions)
    read = len(rows.candles) + len(rows.rejected)
    return Imported(str(path), name, frame.name, read, counts, tuple(rows.rejected))


class _Rows(msgspec.Struct):
    candles: list[Candle]
    extras: list[Extra]
    rejected: list[RejectedRow]
    actions: list[Action] = []


class _NeedsTimezone(Exception):
    """A time without an offset, and nobody said where it was written."""


_frame = timeframe  # for functions whose parameter has that name


def _format_of(body: bytes, path: Path) -> str:
    """The format that a file's first characters show."""
    head = body[:4096].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        inside = head[1:].lstrip()
        if inside.startswith("["):
            return "binance-rest"
        if inside.startswith("{") and "candle_date_time" in head:
            return "upbit-rest"
    elif head.startswith("{"):
        if re.match(r'\{\s*"chart"', head):
            return "yahoo-chart"
    else:
        return "csv"
    raise UsageError(
        "unknown_format",
        Text("{path} holds JSON, but no candles of a shape that is known here.", {"path": str(path)}),
        Text("Name its format with --format: {names}.", {"names": ", ".join(IMPORT_FORMATS[1:])}),
    )


def _read_rest(
    parse: RestParser, body: bytes, path: Path, asked: str | None, frame: Timeframe | None
) -> tuple[tuple[str, Timeframe], _Rows]:
    found = parse(body)
    rejected = [RejectedRow(index + 1, Text("{reason}", {"reason": reason})) for index, reason in found.rejected]
    if not found.candles:
        if rejected and asked is not None and frame is not None:
            return (asked, frame), _Rows([], [], rejected)
        raise _no_rows(path, rejected)
    name, own = found.candles[0].instrument, timeframe(found.candles[0].timeframe)
    if asked not in (None, name) or frame not in (None, own):
        raise UsageError(
            "wrong_instrument",
            Text(
                "{path} holds {found} {own}, not {asked} {frame}.",
                {"path": str(path), "found": name, "own": own.name, "asked": asked or name, "frame": str(frame or own)},
            ),
            Text("Leave --instrument and --timeframe out: a REST answer names its own."),
        )
    extras = [Extra(*extra) for extra in found.extras]
    return (name, own), _Rows(list(found.candles), extras, rejected, list(found.actions))


def _read_csv(
    body: bytes, path: Path, asked: str | None, frame: Timeframe | None, timezone: str | None, sessions: bool
) -> tuple[tuple[str, Timeframe], _Rows]:
    text = body.decode("utf-8-sig", "replace")
    reader = csv.reader(text.splitlines(keepends=True))
    try:
        header = next(reader, [])
    except csv.Error:
        header = []
    columns = _columns_of(header, path)
    zone = None if timezone is None else _zone(timezone)
    if asked is None:
        raise UsageError(
            "needs_instrument",
            Text("{path} does not say which instrument it is of.", {"path": str(path)}),
            Text("Add --instrument, such as --instrument upbit:KRW-BTC."),
        )
    parsed: list[tuple[int, int, list[float | None]]] = []  # line, open_ns, the other columns
    rejected: list[RejectedRow] = []
    names = [name for name in (*_REQUIRED, "value", *EXTRA_COLUMNS) if name in columns]
    at = [columns[name] for name in names]
    unfinished = not text.endswith(("\n", "\r"))
    lines = text.count("\n") + unfinished
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            rejected.append(RejectedRow(reader.line_num, Text("{reason}", {"reason": str(error)})))
            continue
        line = reader.line_num
        if not row:
            continue
        try:
            if len(row) != len(header):
                if unfinished and line >= lines:
                    raise ValueError(Text("the file ends within this row"))
                lengths = {"found": len(row), "expected": len(header)}
                raise ValueError(Text("it has {found} fields, the header {expected}", lengths))
            open_ns = _time(row[columns["time"]], zone)
            parsed.append((line, open_ns, [_number(row[i], name) for i, name in zip(at, names, strict=True)]))
        except ValueError as error:
            rejected.append(RejectedRow(line, error.args[0]))
        except _NeedsTimezone:
            raise UsageError(
                "needs_timezone",
                Text(
                    "{path}, line {line}: the time {time} has no offset.",
                    {"path": str(path), "line": line, "time": row[columns["time"]]},
                ),
                Text("Say where it was written with --timezone, such as --timezone Asia/Seoul or --timezone UTC."),
            ) from None
    if not parsed:
        if not rejected or frame is None:
            raise _no_rows(path, rejected)
        return (asked, frame), _Rows([], [], rejected)
    natural = _natural_frame([open_ns for _, open_ns, _ in parsed])
    if frame is None:
        if natural is None:
            raise UsageError(
                "needs_timeframe",
                Text("{path} does not say how long its candles last.", {"path": str(path)}),
                Text("Add --timeframe, such as --timeframe 1d."),
            )
        frame = natural
    elif natural is not None and len(parsed) >= _ROWS_TO_JUDGE and natural.approximate_ns > frame.approximate_ns:
        raise UsageError(
            "wrong_timeframe",
            Text(
                "The rows of {path} are {natural} apart, so they are no candles of {frame}.",
                {"path": str(path), "natural": natural.name, "frame": frame.name},
            ),
            Text("Use --timeframe {natural}.", {"natural": natural.name}),
        )
    rows = _Rows([], [], rejected)
    seen: dict[int, list[float | None]] = {}
    for line, open_ns, values in parsed:
        given = dict(zip(names, values, strict=True))
        problem = _problem(open_ns, given, frame, sessions)
        if problem is None and seen.setdefault(open_ns, values) != values:
            problem = Text("its time came before, with other values")
        if problem is not None:
            rejected.append(RejectedRow(line, problem))
            continue
        o, h, lo, c = (given[name] or 0.0 for name in _REQUIRED[:4])
        rows.candles.append(
            Candle(asked, frame.name, open_ns, o, h, lo, c, given["volume"], given.get("value"), True, "import")
        )
        if any(name in columns for name in EXTRA_COLUMNS):
            extra = Extra(open_ns, *(given.get(name) for name in EXTRA_COLUMNS))
            rows.extras.append(extra)
            rows.actions += _actions(asked, extra)
    rejected.sort(key=lambda row: row.line)
    return (asked, frame), rows


def _actions(instrument: str, extra: Extra) -> list[Action]:
    """What a row says was done to shares at the beginning of its bar. Zeros, and one for one, are nothing."""
    paid: list[Action] = []
    if extra.dividends is not None and extra.dividends > 0:
        paid.append(Action(instrument, extra.open_ns, "dividend", extra.dividends))
    if extra.capital_gains is not None and extra.capital_gains > 0:
        paid.append(Action(instrument, extra.open_ns, "gain", extra.capital_gains))
    if extra.stock_splits is not None and extra.stock_splits > 0 and extra.stock_splits != 1:
        paid.append(Action(instrument, extra.open_ns, "split", extra.stock_splits))
    return paid


def _columns_of(header: Sequence[str], path: Path) -> dict[str, int]:
    """Where each known column is."""
    found: dict[str, int] = {}
    known = {*_REQUIRED, "value", *EXTRA_COLUMNS}
    twice = []
    for index, cell in enumerate(header):
        name = cell.strip().casefold().replace("_", " ")
        if name in _TIME_NAMES and (name or index == 0):
            name = "time"
        if name in known or name == "time":
            if name in found:
                twice.append(name)
            found.setdefault(name, index)
    missing = [name for name in ("time", *_REQUIRED) if name not in found]
    if missing or twice:
        values = {"path": str(path), "names": ", ".join(missing or twice)}
        raise UsageError(
            "bad_header",
            Text("{path}, line 1: the header lacks {names}.", values)
            if missing
            else Text("{path}, line 1: the header has {names} twice.", values),
            Text("A candle CSV begins with: time,open,high,low,close,volume (value may follow)."),
        )
    return found


def _zone(name: str) -> dt.tzinfo:
    offset = re.fullmatch(r"(?:UTC)?([+-])(\d\d):?(\d\d)", name)
    if offset is not None:
        away = dt.timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return dt.timezone(away if offset[1] == "+" else -away)
    with suppress(ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo(name)
    raise UsageError(
        "bad_timezone",
        Text("{name!r} is not a time zone.", {"name": name}),
        Text("Write it as Asia/Seoul, UTC or +09:00."),
    )


def _time(text: str, zone: dt.tzinfo | None) -> int:
    """Nanoseconds UTC. Raises `ValueError` with a `Text`, or `_NeedsTimezone`."""
    text = text.strip()
    if _NUMBER.fullmatch(text) and len(text) != 8:  # eight digits are a date: as seconds they would be in 1970
        whole, _, fraction = text.lstrip("+").partition(".")
        unit = next((unit for digits, unit in _UNITS_NS if len(whole.lstrip("-")) <= digits), 1)
        # Whole numbers throughout: a float could not hold today's nanoseconds.
        part = int(fraction[:18].ljust(18, "0")) * unit // 10**18
        ns = int(whole) * unit + (-part if whole.startswith("-") else part)
    else:
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(Text("{text!r} is not a time", {"text": text[:40]})) from None
        if moment.tzinfo is None:
            if zone is None:
                raise _NeedsTimezone
            moment = moment.replace(tzinfo=zone)
            if moment.astimezone(dt.UTC).astimezone(zone).replace(tzinfo=None) != moment.replace(tzinfo=None):
                raise ValueError(Text("{text!r} was skipped by the clocks there", {"text": text[:40]}))
        since = moment - _EPOCH
        ns = (since.days * 86400 + since.seconds) * SECOND_NS + since.microseconds * 1000
    if not _YEARS.start <= 1970 + ns / (365.2425 * 86400 * SECOND_NS) < _YEARS.stop:
        raise ValueError(Text("{text!r} is not a time", {"text": text[:40]}))
    return ns


def _number(text: str, name: str) -> float | None:
    text = text.strip()
    if not text:
        return None
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        if text.casefold() in ("nan", "null", "none"):
            return None
        raise ValueError(Text("its {column} is no number: {text!r}", {"column": name, "text": text[:40]}))
    return number


def _problem(open_ns: int, row: Mapping[str, float | None], frame: Timeframe, sessions: bool) -> Text | None:
    """Why a row cannot be a candle."""
    prices = [row[name] for name in _REQUIRED[:4]]
    if any(price is None for price in prices):
        return Text("it lacks a price")
    o, h, lo, c = (price or 0.0 for price in prices)
    if lo <= 0:
        return Text("its low is not above zero")
    if not (lo <= min(o, c) and max(o, c) <= h):
        return Text("its open or close is not between its low and high")
    if (row["volume"] or 0.0) < 0 or (row.get("value") or 0.0) < 0:
        return Text("its volume is below zero")
    aligned = frame.open_ns(open_ns) == open_ns
    if not aligned and not (sessions and frame.approximate_ns > _frame("30m").approximate_ns):
        return Text(
            "no candle of {frame} begins at {time}; is --timezone right?",
            {"time": _iso(open_ns), "frame": frame.name},
        )
    return None


def _natural_frame(opens: Sequence[int]) -> Timeframe | None:
    """The timeframe that the distances of the rows suggest: the commonest, if none is shorter."""
    ordered = sorted(set(opens))
    gaps = Counter(later - earlier for earlier, later in pairwise(ordered))
    if not gaps:
        return None
    usual, least = gaps.most_common(1)[0][0], min(gaps)
    for name in COMMON:
        frame = _frame(name)
        if frame.ns is not None and frame.ns == usual == least:
            return frame
    days = [gap / (86400 * SECOND_NS) for gap in gaps]
    if min(days) >= 28 and max(days) <= 31:
        return _frame("1M")
    if min(days) >= 365 and max(days) <= 366:
        return _frame("1y")
    # Summer time makes days of 23 and 25 hours, and closed days leave holes.
    if 0.95 < min(days) < 1.05 and 0.95 < usual / (86400 * SECOND_NS) < 1.05:
        return _frame("1d")
    return None


def _no_rows(path: Path, rejected: Sequence[RejectedRow]) -> UsageError:
    if rejected:
        values = {"path": str(path), "line": rejected[0].line, "reason": rejected[0].reason}
        text = Text("{path} has no row that is a candle; line {line}: {reason}.", values)
    else:
        text = Text("{path} holds no candles.", {"path": str(path)})
    return UsageError("no_rows", text, Text("Check that it is the right file, and that it was written to its end."))


def export(
    store: MarketStore,
    instrument: str,
    timeframe: str,
    out: Path | BinaryIO,
    *,
    since_ns: int | None = None,
    until_ns: int | None = None,
    format: str = "csv",
    events: bool = False,
) -> int:
    """Write the stored candles that open in `[since_ns, until_ns)`, oldest first; how many there were.

    `events` adds what files or the venue said besides (`adj close`, `dividends`, `stock splits`, `capital gains`), and
    adjusted closes as they follow where nobody told them; JSON lines are candle events and have no place for it. A
    path appears whole or not at all. Raises `UsageError`
    (no_bars, unknown_format, unwritable_file) and `StoreError`.
    """
    if format not in EXPORT_FORMATS:
        raise UsageError(
            "unknown_format",
            Text("{format!r} is not a format to export.", {"format": format}),
            Text("Known ones are {names}.", {"names": ", ".join(EXPORT_FORMATS)}),
        )
    name = _frame(timeframe).name
    span = (-(1 << 62) if since_ns is None else since_ns, (1 << 62) if until_ns is None else until_ns)
    candles = store.read_candles(instrument, name, *span)
    if not candles:
        raise UsageError(
            "no_bars",
            Text(
                "No {timeframe} candles of {instrument} are stored for that time.",
                {"timeframe": name, "instrument": instrument},
            ),
            Text("`watchhamster data coverage` shows what is stored; `data import` and `data update` add to it."),
        )
    extras = store.read_extras(instrument, name, *span) if events else None
    write = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}[format]
    if not isinstance(out, Path):
        write(candles, extras, out)
        return len(candles)
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:
            write(candles, extras, file)
        os.replace(part, out)
    except OSError as error:
        raise UsageError(
            "unwritable_file",
            Text("{path} cannot be written: {reason}.", {"path": str(out), "reason": error.strerror or str(error)}),
            Text("Choose another place with --out."),
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return len(candles)


def _write_csv(candles: Sequence[Candle], extras: Mapping[int, Extra] | None, out: BinaryIO) -> None:
    none = Extra(0, None, None, None, None)
    out.write(",".join(COLUMNS if extras is None else (*COLUMNS, *EXTRA_COLUMNS)).encode() + b"\n")
    for candle in candles:
        cells: list[float | None] = [
            candle.open, candle.high, candle.low, candle.close, candle.volume, candle.value
        ]  # fmt: skip
        if extras is not None:
            cells += extras.get(candle.open_ns, none)[1:]
        row = ",".join(["" if cell is None else repr(cell) for cell in cells])
        out.write(f"{_iso(candle.open_ns)},{row}\n".encode())


def _write_json(candles: Sequence[Candle], extras: Mapping[int, Extra] | None, out: BinaryIO) -> None:
    for candle in candles:
        out.write(to_json(candle) + b"\n")


def _write_parquet(candles: Sequence[Candle], extras: Mapping[int, Extra] | None, out: BinaryIO) -> None:
    import pyarrow as pa  # heavy, and only needed here
    import pyarrow.parquet as pq

    columns = {"time": pa.array([candle.open_ns for candle in candles], pa.timestamp("ns", "UTC"))}
    for name in COLUMNS[1:]:
        columns[name] = pa.array([getattr(candle, name) for candle in candles], pa.float64())
    if extras is not None:
        for index, name in enumerate(EXTRA_COLUMNS, 1):
            found = [extras[candle.open_ns][index] if candle.open_ns in extras else None for candle in candles]
            columns[name] = pa.array(found, pa.float64())
    pq.write_table(pa.table(columns), out)


def _iso(ns: int) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ`, with a fraction only if it is not zero."""
    seconds, fraction = divmod(ns, SECOND_NS)
    moment = (_EPOCH + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f".{fraction:09}".rstrip("0") if fraction else ""
    return f"{moment}{digits}Z"
