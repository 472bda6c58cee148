"""A probe notes all of its times, above all the long one that everything stood still for."""

import pytest
from benchmarks.client import NoAnswerError
from benchmarks.content import Item
from benchmarks.probe import Probe

from cachestream.testing.origin import OriginThread

pytestmark = pytest.mark.integration

CLIP = Item("clip.bin", 200)


def test_a_server_that_stands_still_is_seen():
    """An answer that was under way all the time counts with all the time that it took."""
    with OriginThread() as origin:
        clip = origin.add("/clip.bin", bytes(200))
        with Probe(origin.url("").rstrip("/"), CLIP, bytes(100)) as probe:
            before = origin.count("/clip.bin")
            clip.latency = 0.3
            origin.wait_request(before + 2, "/clip.bin")
            clip.latency = 0.0
    assert max(probe.times) >= 0.3


def test_there_is_a_time_even_if_nobody_waited():
    """A figure is never made of nothing."""
    with OriginThread() as origin:
        origin.add("/clip.bin", bytes(200))
        with Probe(origin.url("").rstrip("/"), CLIP, bytes(100)) as probe:
            pass
    assert probe.times


def test_a_wrong_answer_ends_it():
    """Times of wrong bytes are no times."""
    with OriginThread() as origin:
        origin.add("/clip.bin", b"x" * 200)
        with pytest.raises(NoAnswerError, match="wrong bytes"):
            Probe(origin.url("").rstrip("/"), CLIP, bytes(100)).__enter__()
