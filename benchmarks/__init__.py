"""Comparisons with named floors and peers, in one run, as ratios. Never part of the tests."""
