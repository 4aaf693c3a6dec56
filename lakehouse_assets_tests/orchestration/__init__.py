"""How Dagster sees the platform."""
