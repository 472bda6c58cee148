"""What the program said of single sources."""

import pytest

from cachestream._engine.naming import SOURCES, Names, check_key
from cachestream.errors import ConfigurationError


def source(number):
    """Return one of many URLs of one thing."""
    return f"https://cdn.example/film?signature={number}"


def test_two_urls_may_stand_for_one_key():
    """Both are known, and the newest is the one to ask."""
    names = Names()
    assert names.note(source(1), "film", None)
    assert names.note(source(2), "film", None)
    assert names.key_of(source(1)) == names.key_of(source(2)) == "film"
    assert names.of("film").url == source(2)
    assert names.key_of("https://cdn.example/other") is None
    assert names.of("other") is None


def test_an_older_url_said_again_is_no_news():
    """A URL that was known before does not replace a newer one."""
    names = Names()
    names.note(source(1), "film", None)
    names.note(source(2), "film", None)
    assert not names.note(source(1), "film", None)
    assert names.of("film").url == source(2)


def test_a_way_to_renew_stays_until_there_is_another():
    """None leaves what was said before."""
    names = Names()
    first, second = (lambda source, status: None), (lambda source, status: "x")
    names.note(source(1), "film", first)
    names.note(source(2), "film", None)
    assert names.of("film").refresh is first
    names.note(source(2), "film", second)
    assert names.of("film").refresh is second


def test_the_oldest_urls_of_a_key_are_forgotten_but_none_in_use():
    """A radio that is renewed every hour for a year does not grow."""
    names = Names()
    for number in range(SOURCES * 5):
        names.note(source(number), "film", None, (source(3),))
    assert len(names.of("film").sources) <= SOURCES + 1
    assert names.key_of(source(2)) is None
    assert names.key_of(source(3)) == "film"
    assert names.key_of(source(SOURCES * 5 - 1)) == "film"


def test_a_url_that_moved_to_another_key_stays_there():
    """Forgetting it under the old key does not touch the new one."""
    names = Names()
    names.note(source(0), "film", None)
    names.note(source(0), "song", None)
    for number in range(1, SOURCES * 2):
        names.note(source(number), "film", None)
    assert names.key_of(source(0)) == "song"


@pytest.mark.parametrize("key", ["", None, 7, b"film"])
def test_what_is_no_key_is_refused(key):
    """A key is text that is not empty."""
    with pytest.raises(ConfigurationError, match="a key is text"):
        check_key(key)
