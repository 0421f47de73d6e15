"""Log lines: where they go, and what they look like to people and to programs."""

import datetime
import functools
import json
import logging
import sys
from abc import ABC, abstractmethod
from typing import Any

from floway_core.protocol import jsontext

HUMAN, JSON = "human", "json"


class StructuredMessage(ABC):
    """What is logged in place of a message, if it has values that programs want to find by name.

    ``str`` makes the message of it.
    """

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """The values: texts, numbers, booleans and None; ``message`` is a short one for those who read on."""


def configure_logging(level: str, style: str = HUMAN) -> None:
    """Send what the process logs to standard error, from ``level`` (``debug``, ``info``, ...) on.

    :param style: ``human`` or ``json``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == JSON else Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("floway").setLevel(level.upper())
    logging.getLogger("floway_core").setLevel(level.upper())
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings quote what upstreams send
    logging.captureWarnings(True)
    server = logging.getLogger("gunicorn.error")
    server.handlers.clear()
    server.propagate = True
    # What no line shows is not looked up either: it would take longer than all the rest of a record.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class Lines(logging.Formatter):
    """One line for each message, for people: moment, level, logger, message.

    A traceback follows, indented: nothing but a new message begins in the first column.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = f"{moment(record.created)} {record.levelname} {record.name} {on_one_line(record.getMessage())}"
        return "\n".join([line, *(f"    {on_one_line(part)}" for part in self._trace(record).splitlines())])

    def _trace(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JsonLines(Lines):
    """One JSON object for each message, on one line.

    It has ``time``, ``level``, ``logger`` and ``message``, what a structured message has by name, and a traceback in
    ``exception`` if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            **(record.msg.fields() if isinstance(record.msg, StructuredMessage) else {"message": record.getMessage()}),
        }
        if trace := self._trace(record):
            content["exception"] = trace
        line = jsontext.dumps(content).decode()
        return line if line.isprintable() else json.dumps(content)  # there are more line ends than JSON escapes


def moment(unix_seconds: float) -> str:
    """UTC with milliseconds, such as ``2026-01-31T12:00:00.123Z``."""
    seconds, fraction = divmod(unix_seconds, 1)
    return f"{_second(int(seconds))}.{int(fraction * 1000):03}Z"


@functools.lru_cache(maxsize=1)
def _second(unix_seconds: int) -> str:
    """As the lines of one second have it, of which there may be many."""
    return datetime.datetime.fromtimestamp(unix_seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def on_one_line(text: str) -> str:
    """``text`` with every control character, line end and the like escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
