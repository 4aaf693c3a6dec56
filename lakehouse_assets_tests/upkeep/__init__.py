"""Maintenance in the middle of everything else that happens to a table, looked at by somebody who wants it to fail."""
