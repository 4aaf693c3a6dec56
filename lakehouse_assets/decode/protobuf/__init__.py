"""Protobuf: schemas, what of them a table wants, and two decoders of bodies that share one plan."""
