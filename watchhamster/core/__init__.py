"""The words everyone shares: instruments, market data, books, candles, errors, ports. No I/O, no clock, no Qt."""
