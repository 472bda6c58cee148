"""Where the log goes when the command line runs: stderr, as text or as JSON.

In JSON each record is one object on one line, with ``time`` (ISO 8601, UTC), ``level``,
``logger``, ``message``, and ``url`` and ``exception`` where there are any; what a record
carries in ``extra`` becomes fields of their own.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias

from cachestream.core.urls import display
from cachestream.errors import CacheStreamError

__all__ = ["LOG_FORMATS", "LogFormat", "TextFormatter", "configure_logging", "json_formatter"]

LogFormat: TypeAlias = Literal["text", "json"]
LOG_FORMATS: Final[tuple[LogFormat, ...]] = ("text", "json")

_TEXT: Final = "%(levelname)s %(name)s: %(message)s"
_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>()]+")

ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def configure_logging(verbosity: int, form: LogFormat = "text") -> None:
    """Send the package's log to stderr; the library itself never does.

    Args:
        verbosity: 0 for warnings, 1 for more, 2 for all, the access log included.
        form: How a record is written.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(json_formatter() if form == "json" else TextFormatter(_TEXT))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("cachestream").setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])


def mask_urls(text: str) -> str:
    """Mask each URL in a text that others wrote, as logs have them."""
    return _URL.sub(lambda found: display(found[0]), text)


class TextFormatter(logging.Formatter):
    """Writes records as text; tracebacks, which may quote anything, have their URLs masked."""

    def format(self, record: logging.LogRecord) -> str:
        # A handler before this one may have left its own text of the traceback in the record.
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802  # as logging has it
        return mask_urls(super().formatException(ei))


def json_formatter() -> logging.Formatter:
    """Return a formatter that writes one JSON object a record."""
    # Here and not above: most commands need none.
    from pythonjsonlogger.json import JsonFormatter

    class Formatter(JsonFormatter):
        """Puts the time first, and the URL where an error knows it."""

        def add_fields(
            self,
            log_data: dict[str, Any],
            record: logging.LogRecord,
            message_dict: dict[str, Any],
        ) -> None:
            when = datetime.fromtimestamp(record.created, UTC)
            log_data["time"] = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            super().add_fields(log_data, record, message_dict)
            if "url" not in log_data and (url := _url_of(record)) is not None:
                log_data["url"] = display(url)

        def formatException(self, ei: Any) -> str:  # noqa: N802  # as logging has it
            return mask_urls(logging.Formatter.formatException(self, ei))

    renamed = {
        "levelname": "level",
        "name": "logger",
        "exc_info": "exception",
        "stack_info": "stack",
    }
    return Formatter("%(levelname)s %(name)s %(message)s", rename_fields=renamed)


def _url_of(record: logging.LogRecord) -> str | None:
    """Return the URL of the first error of ours that a record is about."""
    args = record.args.values() if isinstance(record.args, dict) else record.args or ()
    errors = [*args, *(record.exc_info or ())]
    return next(
        (each.url for each in errors if isinstance(each, CacheStreamError) and each.url), None
    )
