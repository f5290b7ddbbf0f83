"""Channels that carry an alert to a person, each failing alone."""
