"""The language of conditions: parsed, typed, evaluated over arrays or one bar at a time with the same bits."""
