"""Signed data sets for RecBole: reading, splitting, loaders and samplers."""
