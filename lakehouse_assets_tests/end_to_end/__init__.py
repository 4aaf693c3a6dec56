"""Tests of the data path: end_to_end."""
