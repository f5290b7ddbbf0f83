/* What backtests cost in plain C: the least that the same work can take on this machine.
 *
 *     cc -O3 -march=native -fno-math-errno -shared -fPIC backtest_bound.c -o backtest_bound.so
 *
 * Decisions at a bar's close fill at the next open. Equity is marked at every bar, with its largest drawdown and the
 * sums that a Sharpe ratio needs; neither curve nor trades are kept.
 */
#include <math.h>
#include <stddef.h>

typedef struct {
    double equity, trades, drawdown, returns, squares;
} summary;

typedef struct {
    double peak, before;
} marks;

static void mark(summary *s, marks *m, double equity) {
    s->equity = equity;
    if (equity > m->peak) m->peak = equity;
    double drawdown = 1 - equity / m->peak;
    if (drawdown > s->drawdown) s->drawdown = drawdown;
    double change = equity / m->before - 1;
    m->before = equity;
    s->returns += change;
    s->squares += change * change;
}

/* Simple moving average by a running sum; NaN before the first whole window. */
void sma(const double *x, size_t n, size_t window, double *out) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
        if (i >= window) sum -= x[i - window];
        out[i] = i + 1 >= window ? sum / (double)window : NAN;
    }
}

/* Relative strength index after Wilder, seeded by plain means. */
void rsi(const double *close, size_t n, size_t period, double *out) {
    double gain = 0, loss = 0;
    for (size_t i = 0; i < n && i <= period; i++) out[i] = NAN;
    for (size_t i = 1; i <= period; i++) {
        double change = close[i] - close[i - 1];
        if (change > 0) gain += change;
        else loss -= change;
    }
    gain /= (double)period;
    loss /= (double)period;
    out[period] = gain + loss == 0 ? 0 : 100 * gain / (gain + loss);
    double fresh = 1.0 / (double)period, kept = 1 - fresh;
    for (size_t i = period + 1; i < n; i++) {
        double change = close[i] - close[i - 1];
        gain = gain * kept + (change > 0 ? change : 0) * fresh;
        loss = loss * kept + (change < 0 ? -change : 0) * fresh;
        out[i] = 100 * gain / (gain + loss);
    }
}

/* All in when the fast average crosses the slow one upwards, out when it crosses back. */
void cross(const double *open, const double *close, const double *fast, const double *slow, size_t n, size_t since,
           double cash, double fee, summary *s) {
    double size = 0, fast_before = fast[since - 1], slow_before = slow[since - 1];
    int wanted = 0;
    marks m = {cash, cash};
    *s = (summary){cash, 0, 0, 0, 0};
    for (size_t i = since; i < n; i++) {
        if (wanted == 1) {
            size = cash / (open[i] * (1 + fee));
            cash = 0;
        } else if (wanted == -1) {
            cash = size * open[i] * (1 - fee);
            size = 0;
            s->trades++;
        }
        wanted = 0;
        if (fast[i] > slow[i] && fast_before <= slow_before && size == 0) wanted = 1;
        else if (fast[i] < slow[i] && fast_before >= slow_before && size != 0) wanted = -1;
        fast_before = fast[i];
        slow_before = slow[i];
        mark(s, &m, cash + size * close[i]);
    }
}

/* In when the index is below a threshold; out by a stop or a target of so many parts of the entry price. */
void bracket(const double *open, const double *high, const double *low, const double *close, const double *index,
             size_t n, double threshold, double stop, double target, double cash, double fee, summary *s) {
    double size = 0, below = 0, above = 0;
    int wanted = 0;
    marks m = {cash, cash};
    *s = (summary){cash, 0, 0, 0, 0};
    for (size_t i = 0; i < n; i++) {
        if (wanted) {
            size = cash / (open[i] * (1 + fee));
            cash = 0;
            wanted = 0;
            below = open[i] * (1 - stop);
            above = open[i] * (1 + target);
        }
        if (size != 0) {
            double price = 0;
            if (low[i] <= below) price = open[i] < below ? open[i] : below;
            else if (high[i] >= above) price = open[i] > above ? open[i] : above;
            if (price > 0) {
                cash = size * price * (1 - fee);
                size = 0;
                s->trades++;
            }
        }
        if (size == 0 && index[i] < threshold) wanted = 1;
        mark(s, &m, cash + size * close[i]);
    }
}
