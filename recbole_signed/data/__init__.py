"""Signed data sets for RecBole: loading, splitting, evaluation batches."""
