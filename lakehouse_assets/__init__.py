"""Kafka topics become Apache Iceberg tables; Iceberg tables are Dagster assets."""
