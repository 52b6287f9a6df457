"""Synthetic signed bipartite graphs with time, as large as wanted, whose statistics match a real data set's.

``generate("kuairand", 10_000_000, seed=0)`` gives arrays of edges; :mod:`recbole_signed.synth.checks` compares their
statistics with those of the data the profile was fitted to, and :mod:`recbole_signed.synth.writer` puts them on disk.
"""

from recbole_signed.synth.generator import SyntheticGraph, generate
from recbole_signed.synth.profile import PROFILES, Profile, find_profile
from recbole_signed.synth.writer import load

__all__ = ["PROFILES", "Profile", "SyntheticGraph", "find_profile", "generate", "load"]
