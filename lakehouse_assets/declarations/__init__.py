"""Declaration files to table specs."""
