"""`plugins doctor` prints a line a check, and ends with 0 or 1."""

import json
import re

import pytest

from cachestream.cli import _doctor
from cachestream.testing.doctor import Check


@pytest.fixture
def found(monkeypatch):
    """Return a list of checks that the doctor finds instead of looking, and what it was told."""
    checks, orders = [], []

    async def diagnose(order, *, timeout):
        orders.append((order, timeout))
        for check in checks:
            yield check

    monkeypatch.setattr("cachestream.testing.doctor.diagnose", diagnose)
    return checks, orders


OPTION = {
    "name": "bucket", "type": "str", "default": None, "required": True,
    "help": "where the films are", "unit": "", "secret": False,
}  # fmt: skip


def test_each_check_is_a_line(run, found):
    """Name, status, what was found and how long it took; options are listed below theirs."""
    checks, _ = found
    checks += [
        Check(name="loads", detail="from a:B", seconds=1.25),
        Check(name="options", detail="bucket", facts={"options": [OPTION]}),
        Check(name="contract", detail="61 promises kept"),
    ]
    done = run("plugins", "doctor", "disk")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert re.fullmatch(r"found        ok      in cachestream [\d.]+", lines[0])
    assert lines[1] == "loads        ok      from a:B (1.2 s)"
    assert lines[4].split() == ["bucket", "str", "required", "where", "the", "films", "are"]
    assert lines[5] == "contract     ok      61 promises kept"
    assert lines[-1] == "store disk: all is well"


def test_a_failed_check_ends_with_1(run, found):
    """The broken promise stands in its line, what was not reached says so."""
    checks, _ = found
    checks += [
        Check(name="made", status="failed", detail="store.s3 needs the option 'bucket'"),
        Check(name="contract", status="not reached"),
    ]
    done = run("plugins", "doctor", "disk")
    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    assert lines[1] == "made         failed  store.s3 needs the option 'bucket'"
    assert lines[2] == "contract     -       not reached"
    assert b"failed: made" in done.stderr


def test_json_has_all(run, found):
    """With --json there is one value and nothing else on stdout."""
    checks, _ = found
    checks.append(Check(name="contract", status="failed", detail="no", facts={"broken": [1]}))
    done = run("plugins", "doctor", "http", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert told["plugin"]["target"] == "cachestream.transports:HttpTransport"
    assert [check["name"] for check in told["checks"]] == ["found", "contract"]
    assert told["checks"][1]["facts"] == {"broken": [1]}


def test_what_was_given_reaches_the_doctor(run, found):
    """Options, file, URL and time limit are passed on; the directory is its own."""
    given = ["--option", "transport.http.a=b", "--config", "none", "--url", "http://a/"]
    assert run("plugins", "doctor", "http", *given, "--timeout", "1m").returncode == 0
    ((order, timeout),) = found[1]
    assert (order.options, order.config, order.url) == (
        ("transport.http.a=b",),
        "none",
        "http://a/",
    )
    assert timeout == 60.0
    assert len(order.token) > 20


@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_not_found_ends_with_1(run, as_json):
    """A name that nothing has is a failed check like others."""
    done = run("plugins", "doctor", "dsk", *(["--json"] if as_json else []))
    assert done.returncode == 1
    assert "Did you mean 'disk'?" in done.stdout.decode()
    if as_json:
        assert json.loads(done.stdout)["ok"] is False


@pytest.mark.parametrize("wrong", [["--timeout", "0"], ["--kind", "shelf"]])
def test_wrong_flags_are_usage_errors(run, wrong):
    """They end with 2, as everywhere."""
    assert run("plugins", "doctor", "disk", *wrong).returncode == 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_is_examined_for_real(run_process):
    """As a process, from the first line to the last."""
    done = run_process("plugins", "doctor", "filesystem", "--timeout", "60s")
    assert done.returncode == 0, done
    assert re.search(rb"contract +ok +\d+ promises kept", done.stdout)
    assert done.stdout.endswith(b"transport filesystem: all is well\n")


def test_plugins_still_lists(run):
    """Without a subcommand it is the list that it was."""
    done = run("plugins", "--json")
    assert {row["name"] for row in json.loads(done.stdout)} >= {"disk", "http", "loopback"}
    assert _doctor.doctor.name == "doctor"
