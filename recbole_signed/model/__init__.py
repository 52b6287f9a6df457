"""Recommenders for signed graphs: one file per model, named after the lower-cased class."""
