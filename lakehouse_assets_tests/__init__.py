"""Tests of lakehouse_assets."""
