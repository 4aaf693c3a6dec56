"""Words and rules of the platform: pure values, no I/O, no clock, no environment."""
