"""Tests of the data path: systems."""
