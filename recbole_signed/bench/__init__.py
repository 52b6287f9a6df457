"""Experiments: one run, tables of runs, and how they are printed. Nothing heavy is imported here."""
