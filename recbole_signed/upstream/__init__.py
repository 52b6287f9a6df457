"""Writes a model as a contribution to RecBole: one self-contained file and what belongs beside it."""
