"""The log on stderr: text or JSON, one record a line in JSON, without secrets in either."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from cachestream.cli._logs import TextFormatter, configure_logging, json_formatter, mask_urls
from cachestream.errors import ConnectError
from cachestream.testing.origin import OriginThread, pattern

Run = Callable[..., subprocess.CompletedProcess[bytes]]

SECRET = "canary"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Return the package's logger, and put its level back."""
    logger = logging.getLogger("cachestream")
    level = logger.level
    yield logger
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("verbosity", "level"),
    [(0, logging.WARNING), (1, logging.INFO), (2, logging.DEBUG), (9, logging.DEBUG)],
)
def test_verbosity_is_the_level_of_the_log(
    logger: logging.Logger, verbosity: int, level: int
) -> None:
    """Each -v shows more, up to all."""
    configure_logging(verbosity)
    assert logger.level == level


def record_of(message: str, *args: object, **more: Any) -> logging.LogRecord:
    """Make a record as a logger does."""
    logger = logging.getLogger("cachestream.engine")
    return logger.makeRecord(
        logger.name, logging.WARNING, "x.py", 1, message, args, more.pop("exc_info", None), **more
    )


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    """Format a record, and read it as one line of JSON."""
    text = json_formatter().format(record)
    assert "\n" not in text
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def raised(error: Exception) -> Any:
    """Return what `sys.exc_info` says of an error."""
    try:
        raise error
    except type(error):
        return sys.exc_info()


def test_a_record_is_one_object_with_the_usual_fields() -> None:
    """Time, level, logger and message are there, the time in UTC; nothing else of the record is."""
    record = record_of("downloaded %d bytes", 7)
    found = as_json(record)
    assert list(found) == ["time", "level", "logger", "message"]
    assert (found["level"], found["logger"]) == ("WARNING", "cachestream.engine")
    assert found["message"] == "downloaded 7 bytes"
    when = datetime.fromisoformat(found["time"])
    assert when.tzinfo == UTC
    assert abs(when.timestamp() - record.created) < 0.001


def test_what_a_record_carries_becomes_fields() -> None:
    """The facts of the access log can be searched for without parsing its line."""
    found = as_json(record_of("served", extra={"status": 206, "outcome": "hit", "range": None}))
    assert (found["status"], found["outcome"], found["range"]) == (206, "hit", None)


def test_an_error_of_ours_gives_its_url_masked() -> None:
    """A record about an error has the URL it happened to, whether by argument or as exception."""
    error = ConnectError("no connection", url=f"https://a.example/v?sig={SECRET}")
    by_argument = as_json(record_of("failed: %s", error))
    by_exception = as_json(record_of("failed", exc_info=raised(error)))
    assert by_argument["url"] == by_exception["url"] == "https://a.example/v?sig=…"
    assert "ConnectError" in by_exception["exception"]
    assert SECRET not in json.dumps([by_argument, by_exception])


@pytest.mark.parametrize("make", [json_formatter, TextFormatter])
def test_tracebacks_have_their_urls_masked(make: Callable[[], logging.Formatter]) -> None:
    """What another library quotes in its errors shows neither user information nor a query."""
    error = ValueError(f"cannot ask https://me:{SECRET}@a.example/v?sig={SECRET}#x")
    record = record_of("failed", exc_info=raised(error))
    assert SECRET in logging.Formatter().format(record)  # which leaves its text in the record
    shown = make().format(record)
    assert "a.example/v" in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("nothing to mask", "nothing to mask"),
        ("see 'http://a.example/v?a=b', then go", "see 'http://a.example/v?a=…', then go"),
        ("<ftp://u:p@h/f>", "<ftp://h/f>"),
    ],
)
def test_urls_in_a_text_are_masked(text: str, masked: str) -> None:
    """The text around URLs stays as it is."""
    assert mask_urls(text) == masked


@pytest.mark.parametrize("by_variable", [False, True])
def test_json_is_a_flag_and_a_variable(
    run_process: Run, environment: dict[str, str], by_variable: bool
) -> None:
    """A whole run writes nothing to its log but objects; results go to stdout as ever."""
    flags = ["--log-format", "json"]
    if by_variable:
        environment["CACHESTREAM_LOG_FORMAT"] = "json"
        flags = []
    with OriginThread() as origin:
        origin.add("/film.bin", pattern("film", 1000))
        done = run_process("-vv", *flags, "cat", origin.url(f"/film.bin?sig={SECRET}"))
    assert (done.returncode, done.stdout) == (0, pattern("film", 1000).bytes())
    records = [json.loads(line) for line in done.stderr.decode().splitlines() if line[:1] == "{"]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, records))
    assert any(each["logger"] == "cachestream.engine" for each in records)
    assert SECRET not in done.stderr.decode()


def test_an_unknown_format_is_a_clear_error(run: Run) -> None:
    """The formats that there are are named."""
    done = run("--log-format", "xml", "ls")
    assert done.returncode == 2
    assert b"'text', 'json'" in done.stderr
