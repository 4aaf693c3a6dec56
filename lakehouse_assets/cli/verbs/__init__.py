"""One module per verb of the `lakehouse` command."""
