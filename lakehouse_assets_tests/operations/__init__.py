"""Tests of the data path: operations."""
