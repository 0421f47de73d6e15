"""Logging: the handler, and the formats for people and for programs."""

import datetime
import functools
import json
import logging
from abc import ABC, abstractmethod
from typing import Any

from floway_core.protocol import jsontext
from floway_core.runtime.log_writer import standard_error_handler

HUMAN, JSON = "human", "json"


class StructuredMessage(ABC):
    """A log message with named values for programs. ``str`` gives the text for people."""

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """Return the values: texts, numbers, booleans and None. ``message`` is a short text."""


def configure_logging(level: str, style: str = HUMAN) -> None:
    """Log to standard error.

    :param level: the lowest level that is logged: ``debug``, ``info``, ``warning`` or ``error``.
    :param style: ``human`` or ``json``.
    """
    handler = standard_error_handler()
    handler.setFormatter(JsonFormatter() if style == JSON else HumanFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("floway").setLevel(level.upper())
    logging.getLogger("floway_core").setLevel(level.upper())
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings quote data of upstreams
    logging.captureWarnings(True)
    server = logging.getLogger("gunicorn.error")
    server.handlers.clear()
    server.propagate = True
    # Skip values that no line shows (file, line, thread, process): they cost more than the rest of a record.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class HumanFormatter(logging.Formatter):
    """One line per message, for people: time, level, logger, message.

    A traceback follows, indented, so that only messages start in the first column.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback, if there is one, on further lines."""
        line = f"{format_time(record.created)} {record.levelname} {record.name} {escape_control(record.getMessage())}"
        if not record.exc_info:
            return line
        traceback = self._format_traceback(record).splitlines()
        return "\n".join([line, *(f"    {escape_control(part)}" for part in traceback)])

    def _format_traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JsonFormatter(HumanFormatter):
    """One JSON object per message, on one line.

    It has ``time``, ``level``, ``logger``, ``message``, the fields of a structured message, and a traceback in
    ``exception`` if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object on one line."""
        content = {
            "time": format_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            **(record.msg.fields() if isinstance(record.msg, StructuredMessage) else {"message": record.getMessage()}),
        }
        if traceback := self._format_traceback(record):
            content["exception"] = traceback
        line = jsontext.dumps(content).decode()
        return line if line.isprintable() else json.dumps(content)  # escapes Unicode line ends too


def format_time(unix_seconds: float) -> str:
    """Format a time as UTC with milliseconds, such as ``2026-01-31T12:00:00.123Z``."""
    seconds, fraction = divmod(unix_seconds, 1)
    return f"{_format_second(int(seconds))}.{int(fraction * 1000):03}Z"


@functools.lru_cache(maxsize=1)
def _format_second(unix_seconds: int) -> str:
    # Cached, because many lines may share a second.
    return datetime.datetime.fromtimestamp(unix_seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def escape_control(text: str) -> str:
    """Escape control characters, line ends and everything else in ``text`` that is not printable."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
