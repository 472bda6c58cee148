"""Leases say what must stay, and what is free."""

from cachestream.backends._leases import LeaseBook
from cachestream.core.spans import Span


def test_unleased_is_what_no_lease_covers():
    """Overlapping leases hold their union; an empty one holds nothing."""
    book = LeaseBook(lambda: None)
    book.take(Span(10, 20))
    book.take(Span(15, 30))
    book.take(Span(50, 50))
    assert list(book.unleased(Span(0, 60))) == [Span(0, 10), Span(30, 60)]
    assert list(book.unleased(Span(12, 18))) == []


def test_equal_leases_are_told_apart():
    """Two leases on one span hold it until both end, however often one is released."""
    book = LeaseBook(lambda: None)
    one, two = book.take(Span(0, 5)), book.take(Span(0, 5))
    one.release()
    one.release()
    assert list(book.unleased(Span(0, 5))) == []
    two.release()
    assert list(book.unleased(Span(0, 5))) == [Span(0, 5)]


def test_the_end_of_the_last_lease_is_told_once():
    """The callback comes when no lease is left, and only then."""
    calls = []
    book = LeaseBook(lambda: calls.append(bool(book)))
    with book.take(Span(0, 1)):
        with book.take(Span(3, 4)):
            assert book
        assert calls == []
    assert calls == [False]
