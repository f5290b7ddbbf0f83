"""The running parts: feeds, limits, backfill, the order of events, deliveries. Plain asyncio, no Qt."""
