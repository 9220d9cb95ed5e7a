"""What stands around the calls of some tasks: options, spans of traces, random numbers."""
