"""Tests of the data path: properties."""
