"""Where market data comes from: a file a venue, sans I/O, and the sockets they share.

Adding a venue. Write `venues/<name>.py` with a class that has what `core.ports.Venue` asks for:

1. *Shapes.* The frames and answers the venue really sends, as `msgspec` structs that go no further than the file.
   Their sources and recorded samples belong into the docstring and `tests/data/<name>`.
2. *decode*: bytes to `Ticker`, `Trade`, `Book`, `Candle`. `BadFrame` for what cannot be read, `Rejected` for the
   venue's own errors, nothing for acknowledgements. Never a guess: a value that was not said is None.
3. *Queries*: `markets`, `tickers`, `books`, `trades`, `candles`, each a `Request` with the function that reads its
   answer. What the venue does not have raises `UsageError` (`not_offered`). Whatever is no data becomes a typed error;
   a `Page` never claims to know more than its answer proves. `served_since_ns` says how far back bars go, `described`
   what a symbol alone tells.
4. *Manners*: `quotas` by rate-limit group, a `Request`'s `life_s` where the venue lets answers be kept, and a
   `FeedPolicy` with every interval; nobody else has timings.
5. *Sessions*, where the market closes: `session` and `grid`, by `calendars.calendar_of` with an exchange's hours of
   `core.sessions.MARKETS`; such a venue is `core.ports.Calendared`. One that never closes has no session and the grid
   of UTC.
6. *What there is*: `kinds`. Where there are no trades, open bars are made of the venue's tickers and shown as
   provisional, and it is asked for each bar once its `grid` says that it has settled. What only some venues have are
   protocols of `core.ports`, each used wherever it is there: `Searched` lists no whole market, `Distributing` has
   dividends and splits, `Guarded` has a pass that shortens calls.

Name it in `services.VENUES` and `FEES`, and give it a setting `<name>_url`.

Then give `tests/venues/conformance.py` a `Case`: frames, and a small model of the venue's REST side that shares no code
with it. Its suite says what is missing. `upbit.py` is the plain example; `yahoo.py` has sessions, sparse frames,
actions, and no trades.

What comes free: sockets, quotas, retries, fallback to polling, gap filling, coverage, storage, rules, the window.
"""
