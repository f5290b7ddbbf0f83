"""A local exchange that speaks the venues' real protocols. It shares no code with `venues`."""
