"""Files on disk: candles with their coverage (`market.db`), and what the user made (`watchhamster.db`)."""
