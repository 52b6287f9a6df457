"""Experiments: single runs, tables of runs, tuning, replay of streams, analyses of a fitted model."""
