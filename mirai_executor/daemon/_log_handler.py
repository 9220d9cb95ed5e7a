"""Hands what a daemon logs to its host, unless the user's code there has other plans."""

from __future__ import annotations

import functools
import logging
import sys

from mirai_executor._payload import daemon as _payload
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ._log_sender import LogSender

_INITIALIZER = 1 << 63  # where the numbers of tasks end
_MAIN_PROCESS = "MainProcess"  # what logging says of a process without multiprocessing


_ours: LogHandler | None = None


def install(sender: LogSender, levels: _payload.LogLevels) -> None:
    """Have ``logging`` do as the host's does, and send the host what comes of it."""
    global _ours  # logging is the process's, too
    _ours = handler = LogHandler(sender)
    logging.root.addHandler(handler)
    _set(levels)
    _make_room_for_basic_config(handler)


def installed_handlers() -> set[logging.Handler]:
    """Return the handlers of all loggers."""
    return {handler for logger in _loggers() for handler in logger.handlers}


def take_back(before: set[logging.Handler], levels: _payload.LogLevels) -> None:
    """Do as the host's ``logging`` again, after the main module has configured that of here.

    Args:
        before: The handlers that there were. The host has those that have come since, and records
            are to reach them once.
        levels: The host's.
    """
    if (ours := _ours) is None:
        return
    for handler in installed_handlers() - before - {ours}:
        for logger in _loggers():
            logger.removeHandler(handler)
        handler.close()
    for logger in _loggers():
        # Records of these reach no other one. The root logger's may have been taken away.
        if (logger is logging.root or not logger.propagate) and ours not in logger.handlers:
            logger.addHandler(ours)
    _set(levels)


def _loggers() -> list[logging.Logger]:
    named = logging.Logger.manager.loggerDict.values()
    return [logging.root, *(each for each in [*named] if isinstance(each, logging.Logger))]


def _set(levels: _payload.LogLevels) -> None:
    logging.root.setLevel(levels.root)
    for name, level in levels.named:
        logging.getLogger(name).setLevel(level)
    if levels.disabled:
        logging.disable(levels.disabled)
    if levels.captures_warnings:
        logging.captureWarnings(True)


class LogHandler(logging.Handler):
    """The only handler of a daemon's root logger.

    If an initializer or a task adds another one, that one has it all, as in a process of its own.
    So has a queue handler of any logger: the host would have its records twice. What the host's
    main module adds is taken away after its import, as the host has it, too.
    """

    def __init__(self, sender: LogSender) -> None:
        super().__init__()
        self._sender = sender

    def createLock(self) -> None:  # noqa: N802 - of the standard library
        """Make none: a task may be interrupted while it holds it, and ``put`` needs none."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Send a record; one of a child that a task has forked appears on standard error."""
        if self._goes_elsewhere(record):
            return False
        kept: Any = self.filter(record)  # since 3.12, perhaps another record
        if kept:
            self.emit(record if isinstance(kept, bool) else kept)
        return bool(kept)

    def _goes_elsewhere(self, record: logging.LogRecord) -> bool:
        elsewhere = getattr(sys.modules.get("logging.handlers"), "QueueHandler", ())
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            others = elsewhere if logger.parent is not None else logging.Handler
            for handler in logger.handlers:
                is_mute = handler is self or isinstance(handler, logging.NullHandler)
                if isinstance(handler, others) and not is_mute:
                    return True
            logger = logger.parent
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        if not self._sender.is_of_this_process:
            last = logging.lastResort
            if last is not None and record.levelno >= last.level:
                last.handle(record)
            return
        try:
            self._sender.put(_encode(self._fields(record)))
        except OSError:  # there is no host any more
            pass
        except Exception:  # by the user's own __str__
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what a record consists of: text in place of what may not be sent."""
        fields = dict(vars(record))
        fields["msg"], fields["args"] = record.getMessage(), None
        if record.exc_info:
            if not record.exc_text:
                fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
            fields["exc_info"] = None
        if record.processName == _MAIN_PROCESS:
            fields["processName"] = self._sender.name
        # That of a daemon of this daemon says so itself.
        fields.setdefault("mirai_daemon", self._sender.name)
        task = self._sender.task
        fields.setdefault("mirai_task", None if task == _INITIALIZER else task)
        return fields


def _encode(fields: dict[str, Any]) -> bytes:
    try:
        return bytes(_payload.encode_value(fields).blob)
    except Exception:  # something of `extra` cannot be pickled
        plain = {
            name: value if _is_plain(value) else repr(value) for name, value in fields.items()
        }
        return bytes(_payload.encode_value(plain).blob)


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (bool, int, float, str, bytes)


def _make_room_for_basic_config(handler: LogHandler) -> None:
    """Have ``basicConfig`` work as in a process whose root logger has no handler yet.

    While the host's main module is imported, it does nothing: the host has these handlers, and to
    open a log file again might empty it. (Other ways to open one are beyond us.)
    """
    original = logging.basicConfig

    @functools.wraps(original)
    def basic_config(**options: Any) -> None:
        if _payload.importing_main():
            return
        if logging.root.handlers == [handler]:
            logging.root.removeHandler(handler)
        original(**options)

    logging.basicConfig = basic_config
