"""WatchHamster: a desktop watchman for traders."""

__version__ = "0.1.0"
