"""Message bytes to Arrow columns."""
