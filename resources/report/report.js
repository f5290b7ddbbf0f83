// A report's moving parts: linked charts, the list of trades, definitions on hovering, the theme.
// No library and no network: everything is drawn from the JSON that lies in the page.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = data.words;
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);

  // ---------------------------------------------------------------- theme: the desktop's wish until a button is pressed

  const dusk = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  function applyTheme(forced) {
    root.dataset.theme = forced || chosen || (dusk.matches ? "dark" : "light");
    readColours();
    drawAll();
  }

  // ---------------------------------------------------------------- numbers and times

  const formats = new Map();
  function number(value, digits) {
    if (!formats.has(digits)) {
      formats.set(digits, new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
    }
    return formats.get(digits).format(value).replace("-", "−");
  }
  const digitsOf = (size) => (size >= 1000 ? 0 : size >= 10 ? 2 : size >= 0.1 ? 4 : 8);
  const money = (value) => number(value, digitsOf(Math.abs(value)));
  const percent = (value) => (value > 0 ? "+" : "") + number(value, 2) + " %";
  const amount = (value) => String(Number(value.toPrecision(6)));

  // Swedish writes dates as ISO does: 2024-03-05 09:00:00.
  const clock = new Intl.DateTimeFormat("sv-SE", {
    timeZone: data.zone, year: "numeric", month: "2-digit", day: "2-digit",
    hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
  });
  const stamp = (seconds) => clock.format(seconds * 1000);
  const moment = (seconds) => stamp(seconds).slice(0, data.daily ? 10 : 16);
  const offset = (seconds) => Date.parse(stamp(seconds).replace(" ", "T") + "Z") / 1000 - seconds;

  function decoded(deltas) { // times are sent as their differences
    const found = new Float64Array(deltas.length);
    let at = 0;
    for (let n = 0; n < found.length; n += 1) found[n] = at += deltas[n];
    return found;
  }

  // ---------------------------------------------------------------- the axis all charts share

  // Its unit is the curve's points, not seconds, so that nights and weekends of a market with sessions take no room.
  const curve = data.curve;
  const times = decoded(curve.at);
  const last = times.length - 1;
  const view = { from: 0, to: Math.max(1, last), cursor: null, drag: null };

  function place(seconds) {
    let low = 0, high = last;
    if (seconds <= times[0] || last < 1) return 0;
    if (seconds >= times[last]) return last;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (times[middle] <= seconds) low = middle; else high = middle;
    }
    return low + (seconds - times[low]) / (times[high] - times[low]);
  }
  function timeAt(position) {
    const low = Math.max(0, Math.min(last, Math.floor(position)));
    const high = Math.min(last, low + 1);
    return times[low] + (times[high] - times[low]) * (position - low);
  }
  function zoom(from, to) {
    const span = Math.max(Math.min(10, last), to - from);
    const start = Math.max(0, Math.min(last - span, from));
    view.from = start;
    view.to = Math.max(start + span, 1);
    byId("reset").hidden = view.from <= 0 && view.to >= last;
    drawAll();
  }

  const MINUTE = 60, HOUR = 3600, DAY = 86400;
  const STEPS = [1, 5, 15, 30, MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY];
  function timeMarks(width) {
    const from = timeAt(view.from), to = timeAt(view.to);
    const room = (to - from) / Math.max(2, width / 95);
    const step = STEPS.find((candidate) => candidate >= room);
    const marks = [];
    if (step) {
      const ahead = offset(from), base = step % (7 * DAY) ? 0 : 4 * DAY; // weeks begin on Mondays; 1970 did on a Thursday
      for (let local = Math.ceil((from + ahead - base) / step) * step + base; marks.length < 60; local += step) {
        const at = local - offset(local - ahead);
        if (at > to) break;
        marks.push([at, step < DAY && local % DAY ? stamp(at).slice(11, step < MINUTE ? 19 : 16) : stamp(at).slice(5, 10)]);
      }
      return marks;
    }
    const months = [1, 2, 3, 6, 12, 24, 60, 120].find((n) => n * 30 * DAY >= room) || 240;
    const [year, month] = stamp(from).split("-").map(Number);
    for (let n = Math.ceil((year * 12 + month - 1) / months) * months; marks.length < 60; n += months) {
      const local = Date.UTC(Math.floor(n / 12), n % 12) / 1000;
      const at = local - offset(local);
      if (at > to) break;
      if (at >= from) marks.push([at, n % 12 ? stamp(at).slice(0, 7) : stamp(at).slice(0, 4)]);
    }
    return marks;
  }
  function valueMarks(low, high, most) {
    const rough = (high - low) / Math.max(1, most);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
    const marks = [];
    for (let n = Math.ceil(low / step); n * step <= high && marks.length < 30; n += 1) marks.push(n * step || 0);
    return { marks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0)) };
  }
  function short(value, digits, unit) {
    const size = Math.abs(value);
    if (unit) return number(value, digits) + unit;
    for (const [zeros, letter] of data.units) {
      if (size >= 10 ** zeros) return String(Number((value / 10 ** zeros).toPrecision(5))).replace("-", "−") + letter;
    }
    return number(value, digits);
  }

  // ---------------------------------------------------------------- a chart

  const colours = {};
  function readColours() {
    const style = getComputedStyle(root);
    for (const name of ["panel", "line", "text", "secondary", "accent", "up", "down", "raised"]) {
      colours[name] = style.getPropertyValue("--" + name).trim();
    }
  }

  const RIGHT = 74, BOTTOM = 20, TOP = 6;
  const panels = [];
  let ratio = window.devicePixelRatio || 1;

  // `extent(from, to)` gives the lowest and highest value in sight, `paint(pen)` draws, `read(position)` says it.
  class Panel {
    constructor(id, height, { extent, paint, read, unit = "", floor = null }) {
      this.figure = byId(id);
      if (!this.figure) return;
      Object.assign(this, { height, extent, paint, read, unit, floor, log: false });
      this.canvas = document.createElement("canvas");
      this.canvas.style.height = height + "px";
      this.canvas.tabIndex = 0;
      this.canvas.setAttribute("role", "img");
      this.canvas.setAttribute("aria-label", this.figure.querySelector("b").textContent);
      this.output = this.figure.querySelector("output");
      this.figure.append(this.canvas);
      listen(this);
      panels.push(this);
    }

    draw() {
      const width = this.canvas.clientWidth || this.width;
      if (!width) return;
      this.width = width;
      const { height } = this;
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      const ink = this.canvas.getContext("2d");
      ink.scale(ratio, ratio);
      ink.font = "11px system-ui, sans-serif";
      const right = width - RIGHT, bottom = height - BOTTOM;
      let [low, high] = this.extent(Math.max(0, Math.floor(view.from)), Math.min(last, Math.ceil(view.to)));
      if (!(high > low)) { const pad = Math.abs(high) / 100 || 1; low -= pad; high += pad; }
      const log = this.log && low > 0;
      const rise = log ? Math.log : (value) => value;
      const pad = this.floor === null ? (rise(high) - rise(low)) * 0.06 : 0;
      const base = rise(low) - pad, span = rise(high) + pad - base;
      const x = (position) => ((position - view.from) / (view.to - view.from)) * right;
      const y = (value) => bottom - ((rise(value) - base) / span) * (bottom - TOP);

      ink.strokeStyle = colours.line;
      ink.fillStyle = colours.secondary;
      ink.lineWidth = 1;
      ink.textBaseline = "middle";
      const { marks, digits } = valueMarks(log ? low : base, log ? high : base + span, (bottom - TOP) / 30);
      ink.beginPath();
      for (const value of marks) {
        const level = Math.round(y(value)) + 0.5;
        if (level < TOP - 2 || level > bottom + 1) continue;
        ink.moveTo(0, level);
        ink.lineTo(right, level);
        ink.fillText(short(value, digits, this.unit), right + 6, level);
      }
      ink.textAlign = "center";
      for (const [at, label] of timeMarks(right)) {
        const across = Math.round(x(place(at))) + 0.5;
        if (across < 0 || across > right) continue;
        ink.moveTo(across, TOP);
        ink.lineTo(across, bottom);
        if (across > 16 && across < right - 16) ink.fillText(label, across, bottom + 11);
      }
      ink.stroke();

      ink.save();
      ink.beginPath();
      ink.rect(0, 0, right, bottom + 1);
      ink.clip();
      this.paint({ ink, x, y, right, bottom, from: Math.max(0, Math.floor(view.from) - 1), to: Math.min(last, Math.ceil(view.to) + 1) });
      if (view.drag) {
        ink.globalAlpha = 0.18;
        ink.fillStyle = colours.text;
        ink.fillRect(x(view.drag[0]), 0, x(view.drag[1]) - x(view.drag[0]), bottom);
        ink.globalAlpha = 1;
      }
      if (view.cursor !== null) {
        ink.strokeStyle = colours.secondary;
        ink.lineWidth = 1;
        ink.setLineDash([3, 3]);
        ink.beginPath();
        const across = Math.round(x(view.cursor)) + 0.5;
        ink.moveTo(across, 0);
        ink.lineTo(across, bottom);
        ink.stroke();
      }
      ink.restore();
      const position = view.cursor === null ? null : Math.max(0, Math.min(last, Math.round(view.cursor)));
      this.output.textContent = position === null ? "" : this.read(position, timeAt(view.cursor));
    }
  }

  let waiting = false;
  function drawAll() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(drawNow);
  }
  function drawNow() {
    waiting = false;
    for (const panel of panels) panel.draw();
  }

  function listen(panel) {
    const { canvas } = panel;
    const position = (event) => {
      const box = canvas.getBoundingClientRect();
      const share = Math.max(0, Math.min(1, (event.clientX - box.left) / (box.width - RIGHT)));
      return view.from + share * (view.to - view.from);
    };
    let start = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = position(event);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      view.cursor = position(event);
      view.drag = start === null ? null : [start, view.cursor];
      drawAll();
    });
    const finish = (event) => {
      const range = view.drag;
      view.drag = start = null;
      const moved = range && Math.abs(range[1] - range[0]) / (view.to - view.from) > 0.01;
      if (moved && event.type === "pointerup") zoom(Math.min(...range), Math.max(...range)); else drawAll();
    };
    canvas.addEventListener("pointerup", finish);
    canvas.addEventListener("pointercancel", finish);
    canvas.addEventListener("pointerleave", () => { if (start === null) { view.cursor = null; drawAll(); } });
    canvas.addEventListener("dblclick", () => zoom(0, last));
    canvas.addEventListener("keydown", (event) => {
      const span = view.to - view.from, middle = (view.from + view.to) / 2;
      const moves = {
        ArrowLeft: [view.from - span / 5, view.to - span / 5],
        ArrowRight: [view.from + span / 5, view.to + span / 5],
        "+": [middle - span / 4, middle + span / 4],
        "-": [middle - span, middle + span],
        Escape: [0, last],
      };
      const move = moves[event.key === "=" ? "+" : event.key];
      if (!move) return;
      event.preventDefault();
      zoom(...move);
    });
  }

  // ---------------------------------------------------------------- what the charts draw

  function bounds(from, to, ...columns) {
    let low = Infinity, high = -Infinity;
    for (const column of columns) {
      for (let n = from; n <= to; n += 1) {
        const value = column[n];
        if (value === null) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    return low > high ? [0, 1] : [low, high];
  }
  function line(pen, column, colour, { dash = [], width = 1.6, at = null } = {}) {
    const { ink, x, y } = pen;
    ink.strokeStyle = colour;
    ink.lineWidth = width;
    ink.lineJoin = "round";
    ink.setLineDash(dash);
    ink.beginPath();
    let down = false;
    for (let n = at ? 0 : pen.from; n <= (at ? column.length - 1 : pen.to); n += 1) {
      if (column[n] === null) { down = false; continue; }
      const across = x(at ? at[n] : n), up = y(column[n]);
      if (down) ink.lineTo(across, up); else ink.moveTo(across, up);
      down = true;
    }
    ink.stroke();
    ink.setLineDash([]);
  }
  function area(pen, column, colour, stepped) {
    const { ink, x, y } = pen;
    ink.fillStyle = colour;
    ink.globalAlpha = 0.3;
    ink.beginPath();
    ink.moveTo(x(pen.from), y(0));
    for (let n = pen.from; n <= pen.to; n += 1) {
      if (stepped && n > pen.from) ink.lineTo(x(n - 0.5), y(column[n - 1])), ink.lineTo(x(n - 0.5), y(column[n]));
      ink.lineTo(x(n), y(column[n]));
    }
    ink.lineTo(x(pen.to), y(0));
    ink.fill();
    ink.globalAlpha = 1;
  }

  const equity = new Panel("equity", 280, {
    extent: (from, to) => bounds(from, to, curve.low || curve.equity, curve.high || curve.equity, curve.hold),
    paint: (pen) => {
      if (curve.low) { // a point stands for many bars: the band is where they were
        const { ink, x, y } = pen;
        ink.fillStyle = colours.accent;
        ink.globalAlpha = 0.25;
        ink.beginPath();
        for (let n = pen.from; n <= pen.to; n += 1) ink.lineTo(x(n), y(curve.high[n]));
        for (let n = pen.to; n >= pen.from; n -= 1) ink.lineTo(x(n), y(curve.low[n]));
        ink.fill();
        ink.globalAlpha = 1;
      }
      if (curve.hold.length) line(pen, curve.hold, colours.secondary, { dash: [5, 4], width: 1.2 });
      line(pen, curve.equity, colours.accent, { width: 2 });
    },
    read: (n) => {
      const parts = [moment(times[n]), `${words.equity} ${money(curve.equity[n])} (${percent((curve.equity[n] / data.cash - 1) * 100)})`];
      if (curve.hold.length) parts.push(`${words.hold} ${money(curve.hold[n])} (${percent((curve.hold[n] / data.cash - 1) * 100)})`);
      return parts.join("   ");
    },
  });
  new Panel("drawdown", 120, {
    unit: " %", floor: 0,
    extent: (from, to) => [Math.min(-0.01, bounds(from, to, curve.drawdown)[0] * 1.05), 0],
    paint: (pen) => { area(pen, curve.drawdown, colours.down, false); line(pen, curve.drawdown, colours.down, { width: 1.2 }); },
    read: (n) => percent(curve.drawdown[n]),
  });
  new Panel("exposure", 90, {
    unit: " %", floor: 0,
    extent: (from, to) => [0, Math.max(1, bounds(from, to, curve.exposure)[1] * 1.08)],
    paint: (pen) => area(pen, curve.exposure, colours.accent, true),
    read: (n) => number(curve.exposure[n], 1) + " %",
  });

  const rollingAt = decoded(data.rolling.at), rollingPlace = Array.from(rollingAt, place);
  new Panel("rolling", 120, {
    extent: (from, to) => {
      const seen = data.rolling.value.filter((value, n) => value !== null && rollingPlace[n] >= from && rollingPlace[n] <= to);
      return seen.length ? [Math.min(0, ...seen), Math.max(0, ...seen)] : [-1, 1];
    },
    paint: (pen) => {
      pen.ink.strokeStyle = colours.secondary;
      pen.ink.beginPath();
      pen.ink.moveTo(0, pen.y(0));
      pen.ink.lineTo(pen.right, pen.y(0));
      pen.ink.stroke();
      line(pen, data.rolling.value, colours.accent, { at: rollingPlace });
    },
    read: (_n, seconds) => {
      const n = rollingAt.findLastIndex((at) => at <= seconds);
      return n < 0 || data.rolling.value[n] === null ? "" : number(data.rolling.value[n], 2);
    },
  });

  // ---------------------------------------------------------------- candles, and the trades on them

  const trades = data.trades;
  const entries = decoded(trades.entry);
  const exits = trades.held.map((seconds, n) => (seconds === null ? null : entries[n] + seconds));
  const entryPlaces = Array.from(entries, place);
  const exitPlaces = exits.map((at) => (at === null ? last : place(at)));
  const series = data.series.map((one) => ({ ...one, places: Array.from(decoded(one.at), place) }));
  let shown = series[0];

  const price = new Panel("price", 340, {
    extent: (from, to) => {
      let low = Infinity, high = -Infinity;
      shown.places.forEach((at, n) => {
        if (at < from - 1 || at > to) return;
        low = Math.min(low, shown.low[n]);
        high = Math.max(high, shown.high[n]);
      });
      return low > high ? [0, 1] : [low, high];
    },
    paint: (pen) => { paintCandles(pen); paintTrades(pen); },
    read: (_n, seconds) => {
      const n = shown.places.findLastIndex((at) => at <= view.cursor + 0.5);
      if (n < 0) return "";
      const parts = [`${words.ohlc[0]} ${money(shown.open[n])}  ${words.ohlc[1]} ${money(shown.high[n])}  ${words.ohlc[2]} ${money(shown.low[n])}  ${words.ohlc[3]} ${money(shown.close[n])}`];
      const held = entries.findLastIndex((at, k) => at <= seconds && (exits[k] === null || exits[k] >= seconds) && ofShown(k));
      if (held >= 0) parts.push(`${words.sides[trades.side[held]]} ${percent(trades.percent[held])} ${reason(held)}`);
      return parts.join("   ");
    },
  });
  const ofShown = (n) => data.instruments[trades.instrument[n]] === shown.instrument;
  const reason = (n) => (exits[n] === null ? words.open : data.reasons[trades.reason[n]]);

  function paintCandles({ ink, x, y, right }) {
    const { places, open, high, low, close } = shown;
    let first = places.findIndex((at) => at >= view.from - 1);
    if (first < 0) return;
    let end = first;
    while (end < places.length && places[end] <= view.to) end += 1;
    // A candle needs three pixels: where there are more candles than that, neighbours are joined.
    const joined = Math.max(1, Math.ceil(((end - first) * 3) / right));
    first -= first % joined;
    const wide = Math.max(1, Math.min(14, (right / Math.max(1, (end - first) / joined)) * 0.66));
    ink.lineWidth = 1;
    for (let n = first; n < end; n += joined) {
      const stop = Math.min(places.length, n + joined);
      let top = -Infinity, bottom = Infinity;
      for (let k = n; k < stop; k += 1) { top = Math.max(top, high[k]); bottom = Math.min(bottom, low[k]); }
      const rises = close[stop - 1] >= open[n];
      const across = x((places[n] + places[stop - 1]) / 2);
      const upper = y(Math.max(open[n], close[stop - 1])), lower = y(Math.min(open[n], close[stop - 1]));
      ink.strokeStyle = ink.fillStyle = rises ? colours.up : colours.down;
      ink.beginPath();
      ink.moveTo(across, y(top));
      ink.lineTo(across, y(bottom));
      ink.stroke();
      if (wide < 2.5) { ink.fillRect(across - wide / 2, upper, wide, Math.max(1, lower - upper)); continue; }
      // Rising candles are hollow, so that colour is never the only sign.
      if (rises) { ink.fillStyle = colours.panel; ink.fillRect(across - wide / 2, upper, wide, Math.max(1, lower - upper)); ink.strokeRect(across - wide / 2, upper, wide, Math.max(1, lower - upper)); } else ink.fillRect(across - wide / 2, upper, wide, Math.max(1, lower - upper));
    }
  }

  function paintTrades({ ink, x, y, right }) {
    const seen = [];
    for (let n = 0; n < entries.length; n += 1) {
      if (exitPlaces[n] >= view.from && entryPlaces[n] <= view.to && ofShown(n)) seen.push(n);
    }
    const size = Math.max(2, Math.min(6, right / Math.max(1, seen.length) / 3));
    for (const n of seen) {
      const x0 = x(entryPlaces[n]), x1 = x(exitPlaces[n]);
      const y0 = y(trades.entry_price[n]), y1 = y(trades.exit_price[n] === null ? shown.close[shown.close.length - 1] : trades.exit_price[n]);
      ink.strokeStyle = ink.fillStyle = trades.profit[n] >= 0 ? colours.up : colours.down;
      ink.setLineDash(exits[n] === null ? [2, 3] : []);
      ink.lineWidth = size > 3 ? 2 : 1;
      ink.beginPath();
      ink.moveTo(x0, y0);
      ink.lineTo(x1, y1);
      ink.stroke();
      ink.setLineDash([]);
      // A triangle up is a buy, down a sell: entry and exit of a long one, the other way round of a short one.
      if (seen.length * 3 > right) continue; // too many: they would hide the candles
      const long = trades.side[n] === 0;
      triangle(ink, x0, y0, long ? size : -size);
      if (exits[n] !== null) triangle(ink, x1, y1, long ? -size : size);
    }
  }
  function triangle(ink, x, y, size) {
    const far = size > 0 ? 3 : -3;
    ink.fillStyle = colours.text;
    ink.strokeStyle = colours.panel;
    ink.lineWidth = 1;
    ink.beginPath();
    ink.moveTo(x, y + far);
    ink.lineTo(x - Math.abs(size), y + far + size * 1.6);
    ink.lineTo(x + Math.abs(size), y + far + size * 1.6);
    ink.closePath();
    ink.fill();
    ink.stroke();
  }

  // ---------------------------------------------------------------- the list of trades

  const PAGE = 100;
  const columns = {
    n: (n) => trades.first + n,
    instrument: (n) => data.instruments[trades.instrument[n]],
    side: (n) => words.sides[trades.side[n]],
    entry: (n) => entries[n],
    exit: (n) => (exits[n] === null ? Infinity : exits[n]),
    entry_price: (n) => trades.entry_price[n],
    exit_price: (n) => (trades.exit_price[n] === null ? Infinity : trades.exit_price[n]),
    size: (n) => trades.size[n],
    fees: (n) => trades.fees[n],
    profit: (n) => trades.profit[n],
    percent: (n) => trades.percent[n],
    bars: (n) => trades.bars[n],
    reason,
  };
  const cells = {
    entry: (n) => moment(entries[n]),
    exit: (n) => (exits[n] === null ? "–" : moment(exits[n])),
    entry_price: (n) => money(trades.entry_price[n]),
    exit_price: (n) => (trades.exit_price[n] === null ? "–" : money(trades.exit_price[n])),
    size: (n) => amount(trades.size[n]),
    fees: (n) => money(trades.fees[n]),
    profit: (n) => (trades.profit[n] > 0 ? "+" : "") + money(trades.profit[n]),
    percent: (n) => percent(trades.percent[n]),
  };
  let order = Array.from(entries, (_at, n) => n), listed = 0;

  function list(more) {
    const body = byId("list").tBodies[0], head = [...byId("list").tHead.querySelectorAll("th")];
    if (!more) { body.replaceChildren(); listed = 0; }
    const rows = document.createDocumentFragment();
    for (const n of order.slice(listed, listed + PAGE)) {
      const row = document.createElement("tr");
      for (const { dataset: { column } } of head) {
        const cell = row.insertCell();
        cell.textContent = (cells[column] || columns[column])(n);
        if (column === "profit" || column === "percent") cell.className = trades.profit[n] > 0 ? "up" : trades.profit[n] < 0 ? "down" : "";
        if (["instrument", "side", "reason"].includes(column)) cell.className = "left " + column;
      }
      row.addEventListener("click", () => {
        const one = series.find((candidate) => candidate.instrument === data.instruments[trades.instrument[n]]);
        if (one) { shown = one; if (byId("instrument")) byId("instrument").value = one.instrument; }
        const span = Math.max(40, (exitPlaces[n] - entryPlaces[n]) * 3), middle = (entryPlaces[n] + exitPlaces[n]) / 2;
        zoom(middle - span / 2, middle + span / 2);
        (byId("price") || byId("equity")).scrollIntoView({ block: "center" });
      });
      rows.append(row);
    }
    body.append(rows);
    listed = Math.min(order.length, listed + PAGE);
    byId("more").hidden = listed >= order.length;
  }
  function sortBy(header) {
    const value = columns[header.dataset.column];
    const down = header.getAttribute("aria-sort") !== "descending";
    for (const other of byId("list").tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    order.sort((a, b) => {
      const one = value(a), other = value(b);
      return sign * (typeof one === "string" ? one.localeCompare(other) : one - other || 0) || a - b;
    });
    list(false);
  }
  if (byId("list")) {
    for (const header of byId("list").tHead.querySelectorAll("th")) {
      header.querySelector("button").addEventListener("click", () => sortBy(header));
    }
    byId("more").addEventListener("click", () => list(true));
    list(false);
  }

  // ---------------------------------------------------------------- definitions on hovering

  const tip = byId("tip");
  function explain(term) {
    const definition = byId(term.getAttribute("href").slice(1));
    tip.replaceChildren(...[...definition.childNodes].map((node) => node.cloneNode(true)));
    tip.hidden = false;
    const box = term.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const above = box.bottom + own.height + 12 > window.innerHeight;
    tip.style.left = Math.max(8, Math.min(box.left, window.innerWidth - own.width - 8)) + "px";
    tip.style.top = (above ? box.top - own.height - 6 : box.bottom + 6) + "px";
  }
  for (const term of document.querySelectorAll(".term")) {
    term.addEventListener("pointerenter", () => explain(term));
    term.addEventListener("focus", () => explain(term));
    for (const name of ["pointerleave", "blur"]) term.addEventListener(name, () => { tip.hidden = true; });
    term.addEventListener("click", () => { byId("definitions").open = true; tip.hidden = true; });
  }

  // ---------------------------------------------------------------- switches, size, paper

  const on = (id, event, act) => byId(id)?.addEventListener(event, act); // a run without bars has no charts
  on("theme", "click", () => { chosen = root.dataset.theme === "dark" ? "light" : "dark"; applyTheme(); });
  on("colours", "change", (event) => { root.dataset.colours = event.target.value; readColours(); drawAll(); });
  on("log", "click", (event) => {
    equity.log = !equity.log;
    event.target.setAttribute("aria-pressed", equity.log);
    drawAll();
  });
  on("reset", "click", () => zoom(0, last));
  on("instrument", "change", (event) => {
    shown = series.find((one) => one.instrument === event.target.value);
    drawAll();
  });
  on("map", "change", (event) => {
    for (const map of document.querySelectorAll("[data-map]")) map.hidden = map.dataset.map !== event.target.value;
  });
  dusk.addEventListener("change", () => applyTheme());
  window.addEventListener("resize", drawAll);
  // Paper is light, and finer than the screen.
  window.addEventListener("beforeprint", () => { ratio = 2; view.cursor = null; applyTheme("light"); drawNow(); });
  window.addEventListener("afterprint", () => { ratio = window.devicePixelRatio || 1; applyTheme(); });
  applyTheme();
})();
