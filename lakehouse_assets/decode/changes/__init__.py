"""Change streams: what messages say happened to the rows of a database, as columns."""
