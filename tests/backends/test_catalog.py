"""What the rows mean together, without any file."""

import attrs
import pytest

from cachestream.abc import Key
from cachestream.backends._catalog import Catalog, Changes
from cachestream.backends._format import Counts, Head, Totals, WriteMark
from cachestream.backends._index import Index
from cachestream.core.representation import Representation
from cachestream.errors import StoreConflictError

KEY = Key("https://example.com/a")


def name(number):
    """Return an identifier."""
    return f"{number:032x}"


def changes(number, *, allocated=0, language="", segments=None, key=KEY, file=None):
    """Return what there is to publish of an entry."""
    known = Representation(selecting=(("accept-language", language),) if language else ())
    head = Head(key=key, source=key, representation=known, created=number, file=file)
    return Changes(
        entry_id=name(number),
        segments=segments or {},
        counts=Counts(allocated // 2, allocated),
        head=head,
        file=file,
    )


@pytest.fixture
def catalog(tmp_path):
    """Return the catalog of an empty index."""
    directory = tmp_path / "index"
    directory.mkdir(mode=0o700)
    index = Index(directory)
    index.open()
    yield Catalog(index)
    index.close()


def publish(catalog, number, *, rival=None, accessed=None, open_here=(), **options):
    """Publish an entry."""
    when = number if accessed is None else accessed
    return catalog.publish(changes(number, **options), rival, when, open_here)


def test_totals_follow_every_change(catalog):
    """Publishing, growing, superseding and removing keep the sum of the entries' room."""
    catalog.begin(name(1), WriteMark())
    totals, hidden = catalog.apply([attrs.evolve(changes(1, allocated=100), head=None)])
    assert (totals, hidden) == (Totals(0, 100), {name(1)})
    totals, _ = publish(catalog, 1, allocated=150)
    assert totals == Totals(1, 150)
    totals, hidden = catalog.apply([changes(1, allocated=180)])
    assert (totals, hidden) == (Totals(1, 180), frozenset())
    totals, superseded = publish(catalog, 2, allocated=50, rival=name(1))
    assert totals == Totals(1, 50)
    assert superseded is not None
    assert superseded.entry_id == name(1)
    assert catalog.settle(name(1)) == catalog.settle(name(2)) == Totals(1, 50)
    totals, removed = catalog.remove([name(2), name(2), name(3)], ())
    assert (totals, len(removed)) == (Totals(0, 0), 1)


def test_nothing_is_left_of_a_removed_entry(catalog):
    """After its removal, no row but the totals and the format speaks of an entry."""
    publish(catalog, 1, segments={0: b"x", 7: b"y"}, allocated=10)
    catalog.touch({name(1): 99}, {name(1): True})
    catalog.settle(name(1))
    catalog.remove([name(1)], ())
    assert [row for row, _ in catalog.index.scan("", "\uffff")] == ["z:format", "z:totals"]


def test_the_room_of_an_open_entry_stays_counted(catalog):
    """An entry that is removed while open takes room until it is settled."""
    publish(catalog, 1, allocated=100)
    totals, _ = catalog.remove([name(1)], {name(1)})
    assert totals == Totals(0, 100)
    assert dict(catalog.marks()) == {name(1): WriteMark(100)}
    assert catalog.settle(name(1)) == Totals(0, 0)
    assert catalog.marks() == []


def test_of_two_rivals_one_publishes(catalog):
    """Who did not know the published entry of its variant is told; a removed one is no rival."""
    publish(catalog, 1)
    with pytest.raises(StoreConflictError):
        publish(catalog, 2)
    publish(catalog, 3, language="de")
    publish(catalog, 4, rival=name(1))
    catalog.remove([name(4)], ())
    publish(catalog, 5, rival=name(1))
    assert [entry_id for entry_id, _ in catalog.key(KEY).entries] == [name(3), name(5)]


def test_a_damaged_head_gives_its_room_back(catalog):
    """An entry that nobody can read any more is removed with all its rows."""
    publish(catalog, 1, allocated=100, segments={0: b"x"})
    catalog.settle(name(1))
    with catalog.index.transaction():
        catalog.index.put(f"e:{name(1)}", b"nonsense")
    assert catalog.record(name(1)) is None
    totals, removed = catalog.remove([name(1)], ())
    assert totals == Totals(0, 0)
    assert removed[0].head is None
    publish(catalog, 2)
    assert catalog.key(KEY).find(()) == name(2)


def test_pages_and_ages(catalog):
    """Records come by identifier, and by last access; candidates leave out what must stay."""
    for number, accessed in ((1, 30), (2, 10), (3, 20), (4, 5)):
        key, file = Key(f"k{number}"), "/user/file" if number == 4 else None
        publish(catalog, number, accessed=accessed, key=key, allocated=number, file=file)
    assert [record.entry_id for record in catalog.page(None, 2)] == [name(1), name(2)]
    assert [record.entry_id for record in catalog.page(name(2), 9)] == [name(3), name(4)]
    catalog.touch({name(2): 40, name(9): 50}, {name(3): True})
    assert [record.entry_id for record in catalog.oldest(9)] == list(map(name, (4, 3, 1, 2)))
    assert [record.entry_id for record in catalog.oldest(2)] == list(map(name, (4, 3)))
    first = catalog.candidates("", 1)
    assert [one.entry_id for one in first] == [name(1)]
    assert catalog.room_of(name(1)) == 1
    assert [one.entry_id for one in catalog.candidates(first[0].row, 9)] == [name(2)]
    catalog.touch({}, {name(3): False})
    assert [one.entry_id for one in catalog.candidates("", 9)] == list(map(name, (3, 1, 2)))


def test_a_row_of_the_order_that_leads_nowhere_is_harmless(catalog):
    """Planted rows are listed as candidates without an entry, and go when they are asked to."""
    with catalog.index.transaction():
        for row in ("l:nonsense", f"l:{5:016x}:../../etc/passwd", f"l:{5:016x}:{name(8)}"):
            catalog.index.put(row, b"")
    found = catalog.candidates("", 9)
    assert sorted(one.entry_id for one in found) == ["", "", name(8)]
    assert not any(catalog.room_of(one.entry_id) for one in found)
    assert catalog.oldest(9) == []
    totals, _ = catalog.remove([one.entry_id for one in found], (), [one.row for one in found])
    assert totals == Totals()
    assert catalog.candidates("", 9) == []


def test_reweighing_corrects_the_totals(catalog):
    """Room that a crash left behind is counted for its entry."""
    publish(catalog, 1, allocated=100)
    assert catalog.reweigh(name(1), 130) == Totals(1, 130)
    assert catalog.counts(name(1)) == Counts(50, 130)
