"""Random faults on real components for as long as one likes, from a seed that says which."""
