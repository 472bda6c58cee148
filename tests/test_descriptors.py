"""How many files may be open, and how many idle streams that allows."""

import resource
import subprocess
import sys

import pytest

from cachestream import descriptors


@pytest.fixture
def soft(monkeypatch):
    """Let the process have so many descriptors, of which it may allow itself 4096."""
    limits = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: tuple(limits))

    def set_limit(kind, wanted):
        if wanted[0] > limits[1]:
            raise ValueError("not allowed")
        limits[:] = wanted

    monkeypatch.setattr(resource, "setrlimit", set_limit)
    return limits


def test_a_program_of_its_own_takes_what_it_may(soft):
    """The soft limit is raised to the hard one, and never lowered."""
    assert descriptors.limit() == 1024
    assert descriptors.raise_limit() == 4096
    assert descriptors.raise_limit() == 4096
    soft[:] = [resource.RLIM_INFINITY, resource.RLIM_INFINITY]
    assert descriptors.raise_limit() == descriptors.MOST


def test_where_limits_are_fixed_they_stay(soft, monkeypatch):
    """A sandbox that forbids it is no error."""

    def refuse(kind, wanted):
        raise OSError("not permitted")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_limit() == 1024


@pytest.mark.parametrize(("allowed", "idle"), [(64, 32), (1024, 128), (4096, 512), (60_000, 2000)])
def test_idle_streams_take_a_quarter_of_all_descriptors(soft, allowed, idle):
    """The rest is for clients, origins and streams in use."""
    soft[0] = allowed
    assert descriptors.idle_streams() == idle


def test_the_real_limit_is_raised_in_a_process_of_its_own():
    """Not just in the imagination of a test."""
    program = (
        "import resource as r; from cachestream import descriptors as d;"
        "hard = r.getrlimit(r.RLIMIT_NOFILE)[1]; r.setrlimit(r.RLIMIT_NOFILE, (256, hard));"
        "assert d.limit() == 256; assert d.raise_limit() > 256"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
