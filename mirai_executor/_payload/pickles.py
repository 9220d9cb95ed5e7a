"""Pickle's half in C, without the one in Python, whose import takes milliseconds."""

try:
    from _pickle import PickleBuffer, Pickler, PicklingError, Unpickler, dumps, loads
except ImportError:  # it is CPython's own
    from pickle import PickleBuffer, Pickler, PicklingError, Unpickler, dumps, loads

__all__ = ["PickleBuffer", "Pickler", "PicklingError", "Unpickler", "dumps", "loads"]
