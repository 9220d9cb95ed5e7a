"""Many values of one function: maps, in chunks or not, streams, and the shape of a pool."""
