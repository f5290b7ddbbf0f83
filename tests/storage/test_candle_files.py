"""Files in, files out: the same values, each bad row named, nothing stored twice."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.kit import BTC, DAY_NS, MINUTE_NS, FixedClock, at, everything, spans
from watchhamster.core.market import Candle
from watchhamster.core.ports import UsageError
from watchhamster.storage.candle_files import RestRows, export, import_file
from watchhamster.storage.market import MarketStore
from watchhamster.venues.upbit import parse_candles

PARSERS = {"upbit-rest": parse_candles}
HEADER = "time,open,high,low,close,volume,value\n"


def exported(store: MarketStore, instrument: str = BTC, tf: str = "1m", **options: object) -> str:
    out = io.BytesIO()
    export(store, instrument, tf, out, **options)  # type: ignore[arg-type]
    return out.getvalue().decode()


def written(folder: Path, text: str, name: str = "candles.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# ---------------------------------------------------------------- recorded files


def test_the_recorded_answers_come_back_exactly(store: MarketStore, shared_data: Path) -> None:
    for path in sorted((shared_data / "upbit").glob("rest-candles-*.json")):
        rows = json.loads(path.read_text())
        found = import_file(store, path, parsers=PARSERS)
        assert (found.instrument, found.line()["new"], found.line()["rejected"]) == (BTC, len(rows), 0)
        assert import_file(store, path, parsers=PARSERS).line()["same"] == len(rows)
        opens = [at(row["candle_date_time_utc"]) for row in rows]
        lines = exported(store, tf=found.timeframe, since_ns=min(opens), until_ns=max(opens) + 1).splitlines()[1:]
        expected = [
            ",".join(
                [f"{row['candle_date_time_utc']}Z"]
                + [repr(float(row[f"{name}_price"])) for name in ("opening", "high", "low", "trade")]
                + [repr(row["candle_acc_trade_volume"]), repr(row["candle_acc_trade_price"])]
            )
            for row in reversed(rows)
        ]
        assert lines == expected


def test_the_recorded_daily_csv_maps_korean_days_to_utc(store: MarketStore, shared_data: Path) -> None:
    path = shared_data / "upbit" / "candles-1d-KRW-BTC-2024-2025.csv"
    with pytest.raises(UsageError) as caught:
        import_file(store, path, instrument=BTC)
    assert caught.value.code == "needs_timezone" and "--timezone" in str(caught.value.hint)
    found = import_file(store, path, instrument="KRW-BTC", timeframe="1d", timezone="Asia/Seoul")
    assert found.line() == {"file": str(path), "read": 365, "new": 365, "same": 0, "changed": 0, "rejected": 0}
    given = path.read_text().splitlines()[1:]
    lines = exported(store, tf="1d").splitlines()[1:]
    assert lines == [line.replace(" 09:00:00", "T00:00:00Z") for line in given]


def test_recorded_answers_say_which_minutes_had_no_trade(store: MarketStore, shared_data: Path, tmp_path: Path) -> None:
    rows = json.loads((shared_data / "upbit" / "rest-candles-1m-20200220T1700-2020KST.json").read_text())
    del rows[50:53]
    path = written(tmp_path, json.dumps(rows), "holes.json")
    import_file(store, path, parsers=PARSERS)
    assert spans(store, "2020-02-20 07:59", "2020-02-20 11:21") == [
        ("not_fetched", 1, 0),
        ("candles", 147, 147),
        ("no_trade", 3, 0),
        ("candles", 50, 50),
        ("not_fetched", 1, 0),
    ]


def test_a_half_written_answer_keeps_its_good_rows(store: MarketStore, shared_data: Path, tmp_path: Path) -> None:
    body = (shared_data / "upbit" / "rest-candles-1m-20200220T1700-2020KST.json").read_text()
    path = written(tmp_path, body[:30_000], "half.json")
    found = import_file(store, path, parsers=PARSERS)
    assert found.counts.new > 80 and len(found.rejected) == 1 and found.read == found.counts.new + 1
    assert found.rejected[0].line == found.read and "ends" in str(found.rejected[0].reason)
    states = {span.state for span in store.read_coverage(BTC, "1m", at("2020-02-20 07:00"), at("2020-02-20 12:00"))}
    assert states == {"candles", "not_fetched"}  # what is missing may be the row that was cut off


def test_what_a_csv_says_besides_comes_back(store: MarketStore, shared_data: Path) -> None:
    path = shared_data / "yahoo" / "EWG-1d.csv"
    found = import_file(store, path, instrument="yahoo:EWG", sessions=True)
    assert (found.timeframe, found.counts.new) == ("1d", 662)
    out = list(csv.DictReader(io.StringIO(exported(store, "yahoo:EWG", "1d", events=True))))
    for mine, theirs in zip(out, csv.DictReader(io.StringIO(path.read_text())), strict=True):
        for name in ("Open", "High", "Low", "Close", "Adj Close", "Dividends", "Stock Splits", "Capital Gains"):
            assert mine[name.casefold()] == theirs[name]
        assert float(mine["volume"]) == float(theirs["Volume"]) and mine["value"] == ""
    assert "adj close" not in exported(store, "yahoo:EWG", "1d").splitlines()[0]


# ---------------------------------------------------------------- CSV


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2024-10-15T00:00:00Z", None, "2024-10-15 00:00"),
        ("2024-10-15 09:00:00+09:00", None, "2024-10-15 00:00"),
        ("2024-10-15 09:00:00", "Asia/Seoul", "2024-10-15 00:00"),
        ("2024-10-15 09:00:00", "+09:00", "2024-10-15 00:00"),
        ("2024-10-15", "UTC", "2024-10-15 00:00"),
        ("20241015", "UTC", "2024-10-15 00:00"),
        ("1728950400", None, "2024-10-15 00:00"),
        ("1728950400.0", None, "2024-10-15 00:00"),
        ("1728950400000", "Asia/Seoul", "2024-10-15 00:00"),
    ],
)
def test_times_are_read_as_people_write_them(
    store: MarketStore, tmp_path: Path, text: str, zone: str | None, expected: str
) -> None:
    path = written(tmp_path, f"{HEADER}{text},2,3,1,2,5,10\n")
    import_file(store, path, instrument=BTC, timeframe="1d", timezone=zone)
    assert [row.open_ns for row in everything(store, tf="1d")] == [at(expected)]


@pytest.mark.parametrize(
    "header",
    ["Date,Open,High,Low,Close,Volume", ",open,high,low,close,volume", "TIMESTAMP,CLOSE,LOW,HIGH,OPEN,volume,note"],
)
def test_headers_are_known_without_regard_to_case_and_order(store: MarketStore, tmp_path: Path, header: str) -> None:
    cells = {"open": "2", "high": "4", "low": "1", "close": "3", "volume": "126"}
    row = ",".join(["1728950400", *(cells.get(name.casefold(), "x") for name in header.split(",")[1:])])
    path = written(tmp_path, f"\ufeff{header}\n{row}\n")
    import_file(store, path, instrument=BTC, timeframe="1d")
    assert exported(store, tf="1d").splitlines()[1] == "2024-10-15T00:00:00Z,2.0,4.0,1.0,3.0,126.0,"


def test_bad_rows_are_named_and_the_good_ones_kept(store: MarketStore, tmp_path: Path) -> None:
    lines = [
        "2026-01-05T10:00:00Z,2,3,1,2,5,10",
        "2026-01-05T10:01:00Z,2,3,1,x,5,10",
        "2026-01-05T10:02:00Z,2,1,3,2,5,10",
        "2026-01-05T10:03:30Z,2,3,1,2,5,10",
        "soon,2,3,1,2,5,10",
        "2026-01-05T10:05:00Z,2,3,1,2,-5,10",
        "2026-01-05T10:06:00Z,2,3,0,2,5,10",
        "2026-01-05T10:07:00Z,2,inf,1,2,5,10",
        "2026-01-05T10:08:00Z,2,,1,2,5,10",
        "2026-01-05T10:00:00Z,2,3,1,2.5,5,10",
        "2026-01-05T10:09:00Z,2,3,1,2,,",
        "2026-01-05T10:10:00Z,2,3",
    ]
    path = written(tmp_path, HEADER + "\n".join(lines))
    found = import_file(store, path, instrument=BTC, timeframe="1m", complete=True)
    assert [(row.open_ns, row.volume, row.value) for row in everything(store)] == [
        (at("2026-01-05 10:00"), 5.0, 10.0),
        (at("2026-01-05 10:09"), None, None),
    ]
    assert found.line() == {"file": str(path), "read": 12, "new": 2, "same": 0, "changed": 0, "rejected": 10}
    assert [row.line for row in found.rejected] == [3, 4, 5, 6, 7, 8, 9, 10, 11, 13]
    assert "ends within" in str(found.rejected[-1].reason)
    assert spans(store, "2026-01-05 10:00", "2026-01-05 10:10") == [
        ("candles", 1, 1),
        ("not_fetched", 8, 0),
        ("candles", 1, 1),
    ]


def test_holes_of_a_csv_are_no_trade_only_where_it_is_complete(store: MarketStore, tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "2026-01-05T10:00:00Z,2,3,1,2,5,10\n2026-01-05T10:02:00Z,2,3,1,2,5,10\n")
    for complete, state in ((False, "not_fetched"), (True, "no_trade")):
        import_file(store, path, instrument=BTC, timeframe="1m", complete=complete)
        assert spans(store, "2026-01-05 10:00", "2026-01-05 10:03")[1] == (state, 1, 0)


def test_overlapping_files_are_counted_row_by_row(store: MarketStore, tmp_path: Path) -> None:
    rows = [f"{1767600000 + i * 60},2,3,1,2,{i},10" for i in range(10)]
    import_file(store, written(tmp_path, HEADER + "\n".join(rows[:7])), instrument=BTC, timeframe="1m")
    changed = rows[5].replace(",2,3,", ",2.5,3,")
    path = written(tmp_path, HEADER + "\n".join([*rows[3:5], changed, *rows[6:]]))
    line = import_file(store, path, instrument=BTC, timeframe="1m").line()
    assert (line["read"], line["new"], line["same"], line["changed"]) == (7, 3, 3, 1)
    assert len(everything(store)) == 10


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        ("a,b,c\n1,2,3\n", {"instrument": BTC}, "bad_header"),
        ("", {"instrument": BTC}, "bad_header"),
        ("time,open,high,low,close\n1,2,3\n", {"instrument": BTC}, "bad_header"),
        ("time,open,open,high,low,close,volume\n", {"instrument": BTC}, "bad_header"),
        (HEADER, {"instrument": BTC}, "no_rows"),
        (HEADER + "1728950400,2,3,1,2,5,10\n", {}, "needs_instrument"),
        (HEADER + "1728950400,2,3,1,2,5,10\n", {"instrument": BTC}, "needs_timeframe"),
        (HEADER + "1728950400,2,3,1,2,5,10\n", {"instrument": "no such", "timeframe": "1d"}, "unknown_instrument"),
        (HEADER + "1728950400,2,3,1,2,5,10\n", {"instrument": BTC, "timeframe": "7x"}, "bad_timeframe"),
        (HEADER + "2024-10-15,2,3,1,2,5,10\n", {"instrument": BTC, "timezone": "Mars"}, "bad_timezone"),
        (HEADER + "".join(f"{1728950400 + i * 86400},2,3,1,2,5,1\n" for i in range(20)),
         {"instrument": BTC, "timeframe": "1m"}, "wrong_timeframe"),
        ('{"what": 1}', {}, "unknown_format"),
        ("[[1499040000000, 1]]", {}, "unknown_format"),
        ('{"chart": {}}', {}, "unknown_format"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why_and_stores_nothing(
    store: MarketStore, tmp_path: Path, text: str, options: dict[str, str], code: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        import_file(store, path, parsers=PARSERS, **options)  # type: ignore[arg-type]
    assert caught.value.code == code and caught.value.hint is not None
    assert store.series() == []


def test_an_absent_file_is_named(store: MarketStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        import_file(store, tmp_path / "none.csv", instrument=BTC)
    assert caught.value.code == "no_file" and "none.csv" in str(caught.value)


def test_a_rest_answer_of_another_instrument_is_refused(store: MarketStore, tmp_path: Path) -> None:
    class Answer:
        candles = [Candle("upbit:KRW-ETH", "1m", at("2026-01-05 10:00"), 1, 2, 1, 2, 1, 1, True, "import")]
        rejected: list[tuple[int, str]] = []
        extras = ()
        actions = ()

    def parse(body: bytes) -> RestRows:
        return Answer()

    path = written(tmp_path, "[]")
    with pytest.raises(UsageError) as caught:
        import_file(store, path, instrument=BTC, format="upbit-rest", parsers={"upbit-rest": parse})
    assert caught.value.code == "wrong_instrument"


# ---------------------------------------------------------------- out

_price = st.floats(1e-9, 1e12)
_size = st.one_of(st.none(), st.floats(0, 1e12))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_price, _price, _size, _size), min_size=1, max_size=20))
def test_what_goes_out_comes_in_the_same(
    tmp_path: Path, rows: list[tuple[float, float, float | None, float | None]]
) -> None:
    candles = [
        Candle(BTC, "1m", at("2026-01-05 10:00") + i * MINUTE_NS, o, max(o, c), min(o, c), c, v, q, True, "import")
        for i, (o, c, v, q) in enumerate(rows)
    ]
    stores = []
    for name in ("a.db", "b.db"):
        (tmp_path / name).unlink(missing_ok=True)
        stores.append(MarketStore(tmp_path / name, FixedClock()))
        stores[-1].open()
    stores[0].write(candles)
    export(stores[0], BTC, "1m", tmp_path / "out.csv")
    import_file(stores[1], tmp_path / "out.csv", instrument=BTC, timeframe="1m")
    assert everything(stores[1]) == everything(stores[0]) == candles
    assert exported(stores[0]) == exported(stores[1])
    for store in stores:
        store.close()


def test_json_lines_are_candle_events(store: MarketStore, tmp_path: Path) -> None:
    import_file(
        store, written(tmp_path, HEADER + "1767607200.5,2,3,1,2,,10\n"), instrument=BTC, timeframe="1d", sessions=True
    )
    [event] = [json.loads(line) for line in exported(store, tf="1d", format="json").splitlines()]
    assert event["kind"] == "candle" and event["open"] == 2.0 and event["volume"] is None
    assert (event["open_ns"], event["origin"]) == (1767607200500000000, "import")
    assert exported(store, tf="1d").splitlines()[1].startswith("2026-01-05T10:00:00.5Z,")


def test_parquet_holds_the_same(store: MarketStore, tmp_path: Path) -> None:
    rows = [f"{1767600000 + i * 60},2,3,1,2.5,{i or ''},10.25" for i in range(5)]
    import_file(store, written(tmp_path, HEADER + "\n".join(rows)), instrument=BTC, timeframe="1m")
    assert export(store, BTC, "1m", tmp_path / "out.parquet", format="parquet", events=True) == 5
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names[:7] == ["time", "open", "high", "low", "close", "volume", "value"]
    assert table["volume"].to_pylist() == [None, 1.0, 2.0, 3.0, 4.0]
    assert table["time"].cast("int64").to_pylist()[0] == 1767600000 * 10**9
    assert table["dividends"].to_pylist() == [None] * 5


def test_a_period_is_cut_out_since_inclusive_until_exclusive(store: MarketStore, tmp_path: Path) -> None:
    rows = [f"{1767600000 + i * 60},2,3,1,2.5,1,10.25" for i in range(5)]
    import_file(store, written(tmp_path, HEADER + "\n".join(rows)), instrument=BTC, timeframe="1m")
    start = 1767600000 * 10**9
    assert len(exported(store, since_ns=start + MINUTE_NS, until_ns=start + 3 * MINUTE_NS).splitlines()) == 3
    for options in ({"since_ns": start + DAY_NS}, {"format": "xml"}):
        with pytest.raises(UsageError):
            exported(store, **options)
    with pytest.raises(UsageError) as caught:
        export(store, BTC, "1m", tmp_path / "no" / "where.csv")
    assert caught.value.code == "unwritable_file" and not list(tmp_path.glob("**/*.part"))
