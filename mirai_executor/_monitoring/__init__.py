"""What an executor does, as data, and as monitors of process pools look at it."""
