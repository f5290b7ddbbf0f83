"""Strategies on history: what they are, what they would have done, how far that can be trusted."""
