"""The planner: properties over made-up states, and examples for each of its rules."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream.core.planning import (
    Extend,
    PlanState,
    Running,
    Shorten,
    Start,
    Stop,
    Want,
    apply_plan,
    plan,
)
from cachestream.core.spans import UNBOUNDED, Span, SpanSet

LENGTH = 60
FEW = st.integers(1, 5)
MANY = st.integers(40, 50)


# ---------------------------------------------------------------------------
# States
# ---------------------------------------------------------------------------


@st.composite
def spans(draw, most: int = LENGTH + 15):
    """Draw a span, sometimes empty, sometimes past the end."""
    start = draw(st.integers(0, most))
    return Span(start, draw(st.integers(start, most)))


@st.composite
def leases(draw, stored: SpanSet, limit: int):
    """Draw downloads that run: each leases a part of a hole of its own."""
    marks = sorted(draw(st.sets(st.integers(0, LENGTH), max_size=2 * limit)))
    running = []
    for ident, (position, stop) in enumerate(zip(marks[::2], marks[1::2], strict=False)):
        if position in stored:
            continue
        hole = next(stored.gaps(Span(position, stop)))
        keep = draw(st.integers(0, LENGTH))
        asked = draw(st.one_of(st.just(0), st.integers(position, hole.stop + 5)))
        running.append(Running(ident, position, hole.stop, min(keep, hole.stop), asked))
    if running and draw(st.booleans()):  # one that has just reached its end
        last = running[-1]
        running[-1] = attrs.evolve(last, position=last.stop)
    return tuple(running)


@st.composite
def states(draw, *, limits=FEW):
    """Draw what a resource may look like when it is planned."""
    length = draw(st.one_of(st.none(), st.just(LENGTH), st.integers(0, LENGTH)))
    end = LENGTH if length is None else length
    stored = SpanSet(
        span.intersection(Span(0, end)) for span in draw(st.lists(spans(), max_size=5))
    )
    limit = draw(limits)
    running = tuple(
        attrs.evolve(run, stop=min(run.stop, end), keep=min(run.keep, end))
        for run in draw(leases(stored, limit))
        if run.position <= min(run.stop, end)
    )
    wants = draw(st.lists(st.builds(Want, spans(), st.booleans()), max_size=5))
    if draw(st.booleans()):
        wants.append(Want(Span(0, UNBOUNDED), urgent=False))
    if length is None:  # there is no end to want
        wants = [Want(want.span.intersection(Span(0, LENGTH + 15)), want.urgent) for want in wants]
    return PlanState(
        stored=stored,
        wants=tuple(wants),
        running=running,
        window=draw(st.one_of(st.none(), st.integers(0, 40))),
        limit=limit,
        spread=draw(st.integers(1, 6)),
        least_part=draw(st.integers(0, 20)),
        least_cut=draw(st.integers(0, 40)),
        complete_length=length,
    )


def planned(state: PlanState) -> PlanState:
    """Return the state with its plan applied."""
    return apply_plan(state, plan(state), 100)


def missing(state: PlanState, want: Want) -> list[Span]:
    """Return the bytes of a want that are not stored and do exist."""
    end = UNBOUNDED if state.complete_length is None else state.complete_length
    return list(state.stored.gaps(want.span.intersection(Span(0, end))))


def leased(state: PlanState) -> SpanSet:
    """Return the bytes that are leased."""
    return SpanSet(Span(run.position, run.stop) for run in state.running)


# ---------------------------------------------------------------------------
# Properties
# ---------------------------------------------------------------------------


@given(states())
def test_no_two_leases_share_a_byte(state):
    """Whatever is planned, two downloads never cover one byte."""
    runs = sorted((run.position, run.stop) for run in planned(state).running)
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(runs))


@given(states())
def test_no_lease_covers_a_stored_byte(state):
    """What is stored is not fetched again."""
    after = planned(state)
    for run in after.running:
        assert not list(after.stored.within(Span(run.position, run.stop)))


@given(states())
def test_the_plan_of_a_planned_state_is_empty(state):
    """Planning twice changes nothing: the plan is a fixed point."""
    assert plan(planned(state)) == ()


@given(states(limits=MANY))
def test_every_wanted_byte_is_stored_or_leased_while_the_limit_allows(state):
    """With enough connections nothing that is wanted is left out."""
    after = planned(state)
    cover = leased(after)
    for want in state.wants:
        for gap in missing(state, want):
            assert cover.covers(gap)


@given(states())
def test_the_most_urgent_want_is_leased_unless_every_download_serves_another_reader(state):
    """A reader goes without its next byte only while all downloads have readers at them."""
    after = planned(state)
    if state.linear or not state.known or not state.wants:
        return
    first = state.wants[0]
    for gap in missing(state, first)[:1]:
        if gap.start in leased(after):
            continue
        assert len(after.running) >= state.limit
        others = [want for want in state.wants[1:] if want.urgent]
        # Where nobody waits, one part of a want is as good as another.
        served = others if first.urgent else [first, *others]
        for run in after.running:
            hole = Span(run.position, run.stop)
            assert any(want.span.overlaps(hole) for want in served)


@given(states())
def test_no_download_goes_on_past_its_stop_while_a_more_urgent_reader_goes_without(state):
    """At the limit each download ends in time, so that every reader gets its turn."""
    if state.linear or not state.known or not state.wants or not state.wants[0].urgent:
        return
    first = state.wants[0]
    after = planned(state)
    gaps = missing(state, first)[:1]
    if any(gap.start == first.span.start and gap.start not in leased(after) for gap in gaps):
        before = {run.ident: run.stop for run in state.running}
        assert all(run.stop <= before[run.ident] for run in after.running if run.ident in before)


@given(states())
def test_a_wanted_byte_is_left_out_only_at_the_limit(state):
    """If something wanted is not leased, as many downloads run as may."""
    after = planned(state)
    cover = leased(after)
    if any(not cover.covers(gap) for want in state.wants for gap in missing(state, want)):
        assert len(after.running) >= state.limit


@given(states())
def test_no_more_downloads_run_than_the_limit(state):
    """The limit holds, unless more ran before already."""
    assert len(planned(state).running) <= max(state.limit, len(state.running))


@given(states())
def test_nothing_is_leased_that_nobody_wants_but_to_join_or_to_keep(state):
    """A leased byte is wanted, worth keeping, or on the way to a wanted one."""
    after = planned(state)
    wanted = SpanSet(gap for want in state.wants for gap in missing(state, want))
    for run in after.running:
        on_the_way = max(
            (part.stop for part in wanted.within(Span(run.position, run.stop))), default=0
        )
        assert run.stop <= max(on_the_way, run.keep, run.position)


@given(states())
def test_every_started_download_begins_with_a_wanted_byte(state):
    """No connection is opened for bytes that nobody asked for."""
    wanted = SpanSet(gap for want in state.wants for gap in missing(state, want))
    for action in plan(state):
        if isinstance(action, Start):
            assert action.span.start in wanted
            assert action.span


@given(states())
def test_actions_name_running_downloads_once_each(state):
    """Each action but a start is about another download, and one that runs."""
    idents = [action.ident for action in plan(state) if not isinstance(action, Start)]
    assert len(idents) == len(set(idents))
    assert set(idents) <= {run.ident for run in state.running}


@given(states())
def test_leases_stay_disjoint_after_each_single_action(state):
    """Actions may be carried out one by one: cuts come before what grows into their place."""
    for number, action in enumerate(plan(state)):
        state = apply_plan(state, (action,), 100 + number)
        runs = sorted((run.position, run.stop) for run in state.running if run.position < run.stop)
        assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(runs))


@given(states(), st.data())
def test_following_the_plan_stores_everything_wanted_once(state, data):
    """However the downloads advance, all that is wanted is stored in the end, each byte once."""
    state = attrs.evolve(
        state, complete_length=LENGTH if state.complete_length is None else state.complete_length
    )
    state = attrs.evolve(state, running=())
    for step in range(10 * LENGTH):
        state = apply_plan(state, plan(state), 1000 * (step + 1))
        if not state.running:
            break
        index = data.draw(st.integers(0, len(state.running) - 1))
        run = state.running[index]
        size = data.draw(st.integers(1, max(1, run.stop - run.position)))
        piece = Span(run.position, min(run.stop, run.position + size))
        assert state.stored.copy().add(piece) == len(piece)
        state.stored.add(piece)
        rest = attrs.evolve(run, position=piece.stop)
        others = state.running[:index] + state.running[index + 1 :]
        keep = () if rest.position == rest.stop else (rest,)
        state = attrs.evolve(state, running=others + keep)
    assert not any(missing(state, want) for want in state.wants)


@given(states(), st.booleans())
def test_an_origin_without_ranges_gets_one_download_for_all(state, running):
    """A linear plan is one lease from the first missing byte to the end, if anything is wanted."""
    state = attrs.evolve(state, linear=True, running=state.running[:1] if running else ())
    after = planned(state)
    assert len(after.running) <= 1
    if not state.running:
        wanted = any(missing(state, want) for want in state.wants)
        assert bool(after.running) is wanted
        for run in after.running:
            first = next(state.stored.gaps(Span(0, UNBOUNDED)))
            assert run.position == first.start
    end = UNBOUNDED if state.complete_length is None else state.complete_length
    assert all(run.stop == end for run in after.running)
    assert plan(after) == ()


@given(states())
def test_before_the_first_head_there_is_one_exchange(state):
    """Nothing is known of the origin yet, so one download asks for the first bytes wanted."""
    state = attrs.evolve(state, known=False, running=(), complete_length=None)
    actions = plan(state)
    assert len(actions) <= 1
    wanted = [gap for want in state.wants for gap in missing(state, want)]
    assert actions == tuple(Start(gap) for gap in wanted[:1])
    assert plan(apply_plan(state, actions, 1)) == ()


# ---------------------------------------------------------------------------
# Examples
# ---------------------------------------------------------------------------


def state(**changes) -> PlanState:
    """Return a state of 1000 bytes of which nothing is stored, with some changes."""
    return attrs.evolve(PlanState(stored=SpanSet(), complete_length=1000, window=100), **changes)


def test_one_reader_gets_one_download():
    """A reader of an empty entry gets what it wants by one download."""
    assert plan(state(wants=(Want(Span(0, 300)),))) == (Start(Span(0, 300)),)


def test_stored_bytes_split_what_is_fetched():
    """The hole before a stored span and the one behind it are two downloads."""
    holes = state(stored=SpanSet([Span(100, 200)]), wants=(Want(Span(0, 300)),))
    assert plan(holes) == (Start(Span(0, 100)), Start(Span(200, 300)))


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, ()),
        (99, ()),
        (100, (Shorten(1, 100), Start(Span(100, 1000)))),
    ],
)
def test_a_reader_within_the_window_waits_for_the_download(position, expected):
    """A reader at p waits for a download at q while q ≤ p < q + window."""
    running = (Running(1, 0, 1000),)
    wants = (Want(Span(position, 1000)), Want(Span(0, 1000), urgent=False))
    assert plan(state(running=running, wants=wants)) == expected


def test_a_reader_behind_the_download_gets_its_own():
    """What a download has passed without storing it is fetched by another one."""
    running = (Running(1, 500, 1000),)
    wants = (Want(Span(400, 450)), Want(Span(500, 1000)))
    assert plan(state(running=running, wants=wants)) == (Start(Span(400, 450)),)


def test_without_a_window_everybody_waits():
    """With no window a reader far ahead waits for the download that runs."""
    running = (Running(1, 0, 100),)
    wants = (Want(Span(900, 1000)),)
    assert plan(state(running=running, wants=wants, window=None)) == (Extend(1, 1000),)


def test_a_window_of_nothing_still_lets_a_reader_wait_where_the_download_is():
    """The reader that waits for the very next byte of a download joins it."""
    running = (Running(1, 0, 1000),)
    assert plan(state(running=running, wants=(Want(Span(0, 1000)),), window=0)) == ()


def test_a_reader_just_ahead_extends_the_download():
    """A short unwanted gap within the window is bridged instead of opening a connection."""
    running = (Running(1, 0, 50),)
    wants = (Want(Span(0, 50)), Want(Span(80, 200)))
    assert plan(state(running=running, wants=wants)) == (Extend(1, 200),)


def test_a_download_never_bridges_stored_bytes():
    """A stored span between a download and a wanted hole means a download of its own."""
    running = (Running(1, 0, 50),)
    wants = (Want(Span(0, 200)),)
    split = state(running=running, wants=wants, stored=SpanSet([Span(50, 60)]))
    assert plan(split) == (Start(Span(60, 200)),)


def test_a_split_gives_the_later_part_to_the_new_download():
    """A seek into what a running download leases cuts that lease where the reader is."""
    running = (Running(1, 0, 1000),)
    wants = (Want(Span(600, 700)), Want(Span(0, UNBOUNDED), urgent=False))
    assert plan(state(running=running, wants=wants)) == (
        Shorten(1, 600),
        Start(Span(600, 1000)),
    )


def test_at_the_limit_a_seek_into_a_lease_takes_its_connection():
    """With one connection, a reader that waits far ahead does not wait for all that lies before."""
    running = (Running(1, 0, 1000),)
    wants = (Want(Span(600, 700)), Want(Span(0, UNBOUNDED), urgent=False))
    assert plan(state(running=running, wants=wants, limit=1)) == (Stop(1), Start(Span(600, 1000)))


def test_a_seek_takes_the_connection_that_works_farthest_ahead():
    """What is left unfetched is what is needed last, so that nobody else gives way for it."""
    ahead = [Running(0, 5, 20), Running(1, 20, 40), Running(2, 40, 60)]
    before = state(
        wants=(Want(Span(5, 60)), Want(Span(900, 910))), running=tuple(ahead), window=10, limit=3
    )
    actions = plan(before)
    assert [action for action in actions if isinstance(action, Stop)] == [Stop(2)]
    assert actions[-1] == Start(Span(900, 910))


def test_parts_of_what_nobody_waits_for_are_not_exchanged():
    """A seek takes one connection of a background download; the others stay where they are."""
    parts = (Running(0, 0, 20), Running(1, 500, 600), Running(2, 700, 1000))
    wants = (Want(Span(900, 910)), Want(Span(0, 20)), Want(Span(0, 1000), urgent=False))
    before = state(wants=wants, running=parts, window=10, limit=3, complete_length=1000)
    actions = plan(before)
    assert len([action for action in actions if isinstance(action, Stop)]) == 1
    (begun,) = (action for action in actions if isinstance(action, Start))
    assert begun.span.start == 900


def test_at_the_limit_a_less_urgent_seek_waits_for_the_download():
    """With one connection, a more urgent reader keeps it; the other waits for what it leases."""
    running = (Running(1, 0, 1000),)
    wants = (Want(Span(0, 50)), Want(Span(600, 700)))
    assert plan(state(running=running, wants=wants, limit=1)) == (Shorten(1, 700),)


def test_at_the_limit_an_idle_download_gives_way():
    """A download that only somebody gone wanted is stopped for a reader that waits."""
    running = (Running(1, 0, 100, keep=100),)
    wants = (Want(Span(600, 700)),)
    assert plan(state(running=running, wants=wants, limit=1)) == (Stop(1), Start(Span(600, 700)))


def test_at_the_limit_the_less_urgent_go_without():
    """Two wanted holes and one connection: the more urgent one is fetched."""
    wants = (Want(Span(600, 700)), Want(Span(0, 100)))
    assert plan(state(wants=wants, limit=1)) == (Start(Span(600, 700)),)


def test_what_nobody_wants_is_cut_to_what_is_worth_finishing():
    """After its reader has left, a download goes on up to its keep and no farther."""
    assert plan(state(running=(Running(1, 0, 500, keep=200),))) == (Shorten(1, 200),)


def test_what_is_not_worth_finishing_is_stopped():
    """A download without reader and keep ends at once."""
    assert plan(state(running=(Running(1, 0, 500),))) == (Stop(1),)


def test_nothing_is_wanted_past_the_end():
    """Wants are clipped to the complete length."""
    assert plan(state(wants=(Want(Span(900, 2000)),))) == (Start(Span(900, 1000)),)
    assert plan(state(wants=(Want(Span(1000, 2000)),))) == ()


def test_a_complete_entry_needs_nothing():
    """When all is stored, nothing runs and nothing is started."""
    assert plan(state(stored=SpanSet([Span(0, 1000)]), wants=(Want(Span(0, 1000)),))) == ()


def test_completing_fills_every_hole():
    """A want of everything leases all holes, as far as connections go."""
    holes = state(
        stored=SpanSet([Span(100, 200), Span(300, 400)]),
        wants=(Want(Span(0, UNBOUNDED), urgent=False),),
    )
    assert plan(holes) == (
        Start(Span(0, 100)),
        Start(Span(200, 300)),
        Start(Span(400, 1000)),
    )
    assert plan(attrs.evolve(holes, limit=2)) == (Start(Span(0, 100)), Start(Span(200, 300)))


def test_a_linear_origin_is_asked_for_all_from_the_first_hole():
    """Without ranges the one exchange serves the reader far ahead too."""
    ahead = state(linear=True, stored=SpanSet([Span(0, 10)]), wants=(Want(Span(900, 910)),))
    assert plan(ahead) == (Start(Span(10, 1000)),)


def test_a_linear_origin_keeps_the_earliest_of_several_downloads():
    """When it turns out that there are no ranges, the first download goes on to the end."""
    running = (Running(1, 500, 600), Running(2, 10, 100))
    assert plan(state(linear=True, running=running, wants=(Want(Span(500, 600)),))) == (
        Stop(1),
        Extend(2, 1000),
    )


def test_before_the_first_head_a_second_reader_waits():
    """Nothing more is started while the first exchange has no head yet."""
    unknown = state(
        known=False,
        complete_length=None,
        running=(Running(1, 0, 100),),
        wants=(Want(Span(500, 600)),),
    )
    assert plan(unknown) == ()


# ---------------------------------------------------------------------------
# Several connections for one resource
# ---------------------------------------------------------------------------


@given(states())
def test_no_part_that_is_given_away_is_smaller_than_the_least(state):
    """A part is halved only if both halves are worth a connection."""
    alone = planned(attrs.evolve(state, spread=1))
    shared = planned(state)
    if len(shared.running) > len(alone.running):
        began = {run.position for run in alone.running}
        for run in shared.running:
            if run.position not in began:
                assert run.stop - run.position >= state.least_part


@given(states())
def test_sharing_leases_the_same_bytes(state):
    """Whether one fetches it or several do: what is wanted is leased alike."""
    alone, shared = leased(planned(attrs.evolve(state, spread=1))), leased(planned(state))
    for want in state.wants:
        for gap in missing(state, want):
            assert list(alone.within(gap)) == list(shared.within(gap))


@given(states())
def test_enough_is_shared_by_as_many_as_shall(state):
    """No part stays large enough to be halved while fewer run than shall."""
    state = attrs.evolve(state, least_cut=0)
    if state.linear or not state.known:
        return
    after = planned(state)
    if len(after.running) < min(state.spread, state.limit):
        wanted = SpanSet(gap for want in state.wants for gap in missing(state, want))
        for run in after.running:
            parts = list(wanted.within(Span(run.position, run.stop)))
            if len(parts) == 1:  # else the half may be where nobody wants anything
                assert len(parts[0]) < 2 * max(state.least_part, 1)


def test_what_is_being_sent_is_not_cut_short_for_little():
    """The rest is given away from where the running request ends, or when it is large."""
    wants = (Want(Span(0, 400)),)
    running = (Running(1, 0, 400, asked=250),)
    shared = state(wants=wants, running=running, spread=2, least_part=100, least_cut=300)
    assert plan(shared) == (Shorten(1, 250), Start(Span(250, 400)))
    inside = attrs.evolve(shared, running=(Running(1, 0, 400, asked=400),))
    assert plan(inside) == ()
    large = attrs.evolve(inside, least_cut=200)
    assert plan(large) == (Shorten(1, 200), Start(Span(200, 400)))


def test_what_a_reader_is_before_is_shared_first():
    """The part before the reader is halved, not the larger one that nobody waits for."""
    wants = (Want(Span(0, 400)), Want(Span(0, 1000), urgent=False))
    running = (Running(1, 0, 1000),)
    shared = state(wants=wants, running=running, spread=2, least_part=100)
    assert plan(shared) == (Shorten(1, 200), Start(Span(200, 1000)))
    again = plan(attrs.evolve(planned(shared), spread=4))
    assert again == (
        Shorten(1, 100),
        Shorten(100, 300),
        Start(Span(100, 200)),
        Start(Span(300, 1000)),
    )


def test_what_is_left_is_shared_when_readers_have_enough():
    """An idle connection takes the later half of the largest part that is left."""
    wants = (Want(Span(0, 50)), Want(Span(0, 1000), urgent=False))
    running = (Running(1, 0, 200), Running(2, 200, 1000))
    shared = state(wants=wants, running=running, spread=3, least_part=100)
    assert plan(shared) == (Shorten(2, 600), Start(Span(600, 1000)))


def test_without_a_known_end_nothing_is_halved():
    """Half of what has no end cannot be told."""
    endless = state(
        complete_length=None,
        wants=(Want(Span(0, UNBOUNDED)),),
        running=(Running(1, 0, UNBOUNDED),),
        spread=4,
        least_part=1,
    )
    assert plan(endless) == ()


def test_a_helper_gives_way_to_a_reader():
    """At the limit, a reader that seeks gets the connection of one that only helps another."""
    wants = (Want(Span(800, 900)), Want(Span(0, 400)))
    # The second and the third have stored the beginning of their parts already.
    running = (Running(1, 0, 100), Running(2, 120, 200), Running(3, 240, 400))
    stored = SpanSet([Span(100, 120), Span(200, 240)])
    seek = state(stored=stored, wants=wants, running=running, spread=3, least_part=50, limit=3)
    after = planned(seek)
    assert Span(800, 900) in [Span(run.position, run.stop) for run in after.running]
    assert leased(after).covers(Span(0, 100))
    assert len(after.running) == 3


def test_a_reader_gets_the_connection_that_would_come_to_it_much_later():
    """At the limit, a seek into what a helper is to fetch takes the helper's place."""
    stored = SpanSet([Span(0, 50)])
    wants = (Want(Span(800, 900)), Want(Span(100, 400)))
    running = (Running(1, 50, 500), Running(2, 500, 1000))
    seek = state(stored=stored, wants=wants, running=running, limit=2)
    after = planned(seek)
    assert leased(after).covers(Span(100, 400))
    assert 800 in [run.position for run in after.running]
