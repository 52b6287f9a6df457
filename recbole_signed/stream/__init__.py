"""Prequential evaluation: every window of a stream is first predicted, then learned from."""
