"""Which downloads shall run: a pure function from what is known to what is to be done.

The planner sees what is stored, what is wanted in order of urgency, and which downloads
run. A running download *leases* the hole ``[position, stop)`` that it fills; leases are
disjoint and never contain a stored byte when they are made. The plan starts, extends,
shortens or stops leases so that every wanted byte is stored or leased, no two leases
share a byte, and nothing is leased that nobody wants (but for what is worth finishing).

Where one connection is the limit, several share what is wanted: the later half of the
largest part goes to each new one, the part before a reader first, so that the reader sees
bytes in order at the sum of their speeds.

rclone's rule decides between waiting and opening a connection: a reader at ``p`` waits
for a download at ``q`` while ``q ≤ p < q + window``; farther away it gets its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import attrs

from cachestream.core.spans import UNBOUNDED, Span, SpanSet

__all__ = [
    "Action",
    "Extend",
    "PlanState",
    "Running",
    "Shorten",
    "Start",
    "Stop",
    "Want",
    "apply_plan",
    "plan",
]


LEAST_PART: Final = 1 << 20
"""Least that a download is given of a part that another one would have fetched, in bytes."""


@attrs.frozen
class Want:
    """Bytes that somebody wants; a reader waits at the start of an ``urgent`` one."""

    span: Span
    urgent: bool = True


@attrs.frozen
class Running:
    """A download that will store ``[position, stop)``; up to ``keep`` it is worth finishing.

    Up to ``asked`` the origin is sending already: who cuts that short wastes what is under way.
    """

    ident: int
    position: int
    stop: int
    keep: int = 0
    asked: int = 0


@attrs.frozen(kw_only=True)
class PlanState:
    """All that a plan depends on.

    Attributes:
        stored: Bytes that are held.
        wants: What is wanted, most urgent first.
        running: The downloads; their leases are disjoint.
        window: How far past a download's position a reader waits for it, in bytes;
            None: any distance.
        limit: How many downloads may run.
        spread: How many of them shall share what is wanted, if there is enough of it.
        least_part: Least that one is given of another's part, in bytes.
        least_cut: Least that one is given of what is being sent to another, in bytes.
        complete_length: Length of the representation, None while unknown.
        linear: The origin cannot be asked for parts, or parts could not be joined: there is
            one exchange from the start to the end, and everybody waits for it.
        known: A response head has been seen. Before that there is one download only, since
            nothing is known about the origin.
    """

    stored: SpanSet
    wants: tuple[Want, ...] = ()
    running: tuple[Running, ...] = ()
    window: int | None = None
    limit: int = 8
    spread: int = 1
    least_part: int = LEAST_PART
    least_cut: int = LEAST_PART
    complete_length: int | None = None
    linear: bool = False
    known: bool = True


@attrs.frozen
class Start:
    """Start a download of ``span``."""

    span: Span


@attrs.frozen
class Extend:
    """Let download ``ident`` go on to ``stop``."""

    ident: int
    stop: int


@attrs.frozen
class Shorten:
    """Let download ``ident`` end at ``stop`` already."""

    ident: int
    stop: int


@attrs.frozen
class Stop:
    """End download ``ident`` at once."""

    ident: int


Action: TypeAlias = Start | Extend | Shorten | Stop


@attrs.define(eq=False)
class _Lease:
    """A lease while the plan is made; ``ident`` is None for one to be started."""

    ident: int | None
    position: int
    stop: int
    keep: int
    asked: int = 0
    rank: int | None = None  # index of the most urgent want it serves; None: nobody's

    @property
    def span(self) -> Span:
        """What it is going to fetch."""
        return Span(self.position, self.stop)


def plan(state: PlanState) -> tuple[Action, ...]:
    """Return what to do so that all wanted bytes are stored or leased.

    Under ``limit`` the least urgent wants go without; they are planned again when a
    download ends. The plan of a state to which its plan was applied is empty.
    """
    if not state.known:
        return _first_plan(state)
    if state.linear:
        return _linear_plan(state)
    leases = [
        _Lease(run.ident, run.position, run.stop, run.keep, run.asked) for run in state.running
    ]
    leases.sort(key=lambda lease: lease.position)
    # A want that found no room may find a lease that reaches it, once others have been
    # covered: go on until nothing changes. Each pass but the last covers another want.
    for _ in range(len(state.wants) + 1):
        before = [(lease.position, lease.stop) for lease in leases]
        starved = False
        for rank, want in enumerate(state.wants):
            for gap in state.stored.gaps(_clip(want.span, state.complete_length)):
                if not _cover(state, leases, gap, want, rank, may_grow=not starved):
                    starved = True
        if [(lease.position, lease.stop) for lease in leases] == before:
            break
    _spread(state, leases)
    return _actions(state, leases)


def apply_plan(state: PlanState, actions: tuple[Action, ...], first_ident: int) -> PlanState:
    """Return the state after ``actions``; started downloads are numbered from ``first_ident``."""
    running = {run.ident: run for run in state.running}
    for action in actions:
        match action:
            case Start(span):
                running[first_ident] = Running(first_ident, span.start, span.stop)
                first_ident += 1
            case Extend(ident, stop) | Shorten(ident, stop):
                running[ident] = attrs.evolve(running[ident], stop=stop)
            case Stop(ident):
                del running[ident]
    return attrs.evolve(state, running=tuple(running.values()))


def _clip(span: Span, complete_length: int | None) -> Span:
    return span.intersection(Span(0, UNBOUNDED if complete_length is None else complete_length))


def _first_plan(state: PlanState) -> tuple[Action, ...]:
    """Before anything is known of the origin, one download asks for the first bytes wanted."""
    if state.running:
        return ()
    for want in state.wants:
        for gap in state.stored.gaps(want.span):
            return (Start(gap),)
    return ()


def _linear_plan(state: PlanState) -> tuple[Action, ...]:
    """One exchange from the first missing byte to the end serves everybody."""
    whole = _clip(Span(0, UNBOUNDED), state.complete_length)
    if state.running:
        keep = min(state.running, key=lambda run: run.position)
        actions: list[Action] = [Stop(run.ident) for run in state.running if run is not keep]
        if keep.stop < whole.stop:
            actions.append(Extend(keep.ident, whole.stop))
        return tuple(actions)
    wanted = any(
        True for want in state.wants for _ in state.stored.gaps(_clip(want.span, whole.stop))
    )
    if not wanted:
        return ()
    first = next(state.stored.gaps(whole))
    return (Start(Span(first.start, whole.stop)),)


def _cover(
    state: PlanState, leases: list[_Lease], gap: Span, want: Want, rank: int, *, may_grow: bool
) -> bool:
    """Lease every byte of ``gap`` that is not leased yet, as far as the limit allows.

    Args:
        may_grow: Running downloads may be extended. While a reader that is more urgent goes
            without, they may not: so each ends at its stop, and the next turn is the reader's.

    Returns:
        False if a reader's next byte found no room.
    """
    position = gap.start
    fed = True
    while position < gap.stop:
        lease = _lease_at(leases, position)
        playhead = want.urgent and position == want.span.start
        if lease is not None and playhead and _too_far(state, lease, position):
            lease = _split(state, leases, lease, want)
        if lease is None:
            hole = Span(position, gap.stop)
            lease = _lease_hole(state, leases, hole, want, may_grow=may_grow)
        if lease is None:  # no room for another download: step over the unleased hole
            fed = fed and not playhead
            position = _next_position(leases, position, gap.stop)
            continue
        lease.rank = rank if lease.rank is None else min(lease.rank, rank)
        position = lease.stop
    return fed


def _lease_at(leases: list[_Lease], position: int) -> _Lease | None:
    for lease in leases:
        if lease.position <= position < lease.stop:
            return lease
    return None


def _next_position(leases: list[_Lease], position: int, stop: int) -> int:
    """Return where the next lease after ``position`` begins, at most ``stop``."""
    return min((lease.position for lease in leases if lease.position > position), default=stop)


def _too_far(state: PlanState, lease: _Lease, position: int) -> bool:
    return state.window is not None and position >= lease.position + max(state.window, 1)


def _split(state: PlanState, leases: list[_Lease], lease: _Lease, want: Want) -> _Lease:
    """Give what ``want`` begins with a download of its own, if there is room for one.

    The room may be that of the lease itself, if nobody as urgent wants what it is at: a
    reader that seeks must not wait for all that lies before.
    """
    if not _make_room(state, leases, want, spare=lease, playhead=True):
        return lease
    later = _Lease(None, want.span.start, lease.stop, 0)
    lease.stop = later.position
    leases.append(later)
    leases.sort(key=lambda each: each.position)
    return later


def _lease_hole(
    state: PlanState, leases: list[_Lease], hole: Span, want: Want, *, may_grow: bool
) -> _Lease | None:
    """Cover the start of an unleased hole: extend the download before it, or start one."""
    stop = _next_position(leases, hole.start, hole.stop)
    stop = min(stop, hole.stop)
    before = _lease_before(state, leases, hole.start)
    near = before is not None and not _too_far(state, before, hole.start)
    if before is not None and may_grow:
        goes_on = before.stop == hole.start and not (want.urgent and hole.start == want.span.start)
        if goes_on or near:
            before.stop = stop
            return before
    playhead = want.urgent and hole.start == want.span.start
    if _make_room(state, leases, want, spare=before if near else None, playhead=playhead):
        lease = _Lease(None, hole.start, stop, 0)
        leases.append(lease)
        leases.sort(key=lambda each: each.position)
        return lease
    return None


def _lease_before(state: PlanState, leases: list[_Lease], position: int) -> _Lease | None:
    """Return the lease that would reach ``position`` by going on through missing bytes only."""
    found: _Lease | None = None
    for lease in leases:
        if lease.stop <= position and (found is None or lease.stop >= found.stop):
            found = lease
    if found is None:
        return None
    stored = state.stored.next_start(found.stop) if found.stop < position else None
    return found if stored is None or stored >= position else None


def _make_room(
    state: PlanState, leases: list[_Lease], asking: Want, spare: _Lease | None, *, playhead: bool
) -> bool:
    """Make sure that one more download may run, at the cost of one that no other reader is at.

    ``spare`` is ended only when there is no other. For a reader's next byte (``playhead``) one
    gives way, too, in which no reader is: what it leaves is fetched when there is room again.
    """
    if len(leases) < state.limit:
        return True
    idle = [lease for lease in leases if lease.rank is None and not _serves(state, lease, asking)]
    if not asking.urgent:  # one part in the place of another is no gain
        idle = [lease for lease in idle if not asking.span.overlaps(lease.span)]
    if not idle and playhead:
        idle = [lease for lease in leases if _helps_only(state, lease, want=asking)]
    if not idle:
        return False
    leases.remove(next((lease for lease in reversed(idle) if lease is not spare), idle[-1]))
    return True


def _helps_only(state: PlanState, lease: _Lease, want: Want) -> bool:
    """Tell whether no other reader's next byte is in a lease: it works ahead of somebody."""
    others = (each for each in state.wants if each.urgent and each is not want)
    return not any(each.span.start in lease.span for each in others)


def _spread(state: PlanState, leases: list[_Lease]) -> None:
    """Halve the largest parts until as many downloads as shall share what is wanted do."""
    urgent = [want for want in state.wants if want.urgent]
    working = [lease for lease in leases if _end(state, lease) > lease.position]
    while len(working) < min(state.spread, state.limit):
        lease, middle = _largest(state, working, urgent)
        if lease is None:
            lease, middle = _largest(state, working, state.wants)
        if lease is None:
            return
        later = _Lease(None, middle, lease.stop, 0, rank=lease.rank)
        lease.stop, lease.keep = middle, min(lease.keep, middle)
        leases.append(later)
        working.append(later)


def _largest(
    state: PlanState, leases: list[_Lease], wants: Iterable[Want]
) -> tuple[_Lease | None, int]:
    """Return the lease of which most can be given away, and from where on; None if none."""
    found: _Lease | None = None
    size = middle = 0
    for lease in leases:
        part = _part(state, lease, wants)
        if part.stop >= UNBOUNDED:
            continue  # without a known end there is no half of what is left
        cut = _middle(state, lease, part)
        if cut is None:
            continue
        # Between two wants there may be bytes on the way that nobody wants.
        cut = _part(state, _Lease(None, cut, part.stop, 0), wants).start
        if part.stop - cut >= max(state.least_part, 1) and part.stop - cut > size:
            found, size, middle = lease, part.stop - cut, cut
    return found, middle


def _middle(state: PlanState, lease: _Lease, part: Span) -> int | None:
    """Return where to halve a part, or, better, where what is being sent ends; None if not."""
    least = max(state.least_part, 1)
    half = part.start + len(part) // 2
    if lease.asked <= half:
        return half if len(part) >= 2 * least else None
    if part.stop - lease.asked >= least:
        return lease.asked
    return half if len(part) >= 2 * max(state.least_cut, least) else None


def _serves(state: PlanState, lease: _Lease, asking: Want) -> bool:
    """Tell whether another reader than ``asking`` wants, or soon wants, what a lease is at."""
    reach = lease.stop if state.window is None else lease.position + max(state.window, 1)
    near = Span(lease.position, min(lease.stop, reach))
    return any(
        want.urgent and want is not asking and want.span.overlaps(near) for want in state.wants
    )


def _actions(state: PlanState, leases: list[_Lease]) -> tuple[Action, ...]:
    """Compare the leases with what runs; stops and cuts come first, so leases stay disjoint."""
    before = {run.ident: run for run in state.running}
    kept = {lease.ident for lease in leases}
    cuts: list[Action] = [Stop(ident) for ident in before if ident not in kept]
    grows: list[Action] = []
    for lease in leases:
        stop = _end(state, lease)
        if lease.ident is None:
            grows.append(Start(Span(lease.position, stop)))
        elif stop <= lease.position:
            cuts.append(Stop(lease.ident))
        elif stop < before[lease.ident].stop:
            cuts.append(Shorten(lease.ident, stop))
        elif stop > before[lease.ident].stop:
            grows.append(Extend(lease.ident, stop))
    return (*cuts, *grows)


def _end(state: PlanState, lease: _Lease) -> int:
    """Return how far a lease is wanted or worth keeping; its position if not at all."""
    wanted = _part(state, lease, state.wants)
    return max(lease.position, min(lease.stop, max(wanted.stop, lease.keep)))


def _part(state: PlanState, lease: _Lease, wants: Iterable[Want]) -> Span:
    """Return what of a lease is wanted, from the first such byte to the last."""
    # Many readers make many wants, and this is asked of each lease: numbers, not spans.
    low = first = lease.position
    high, last = lease.stop, low
    if state.complete_length is not None:
        high = min(high, state.complete_length)
    for want in wants:
        start, stop = max(want.span.start, low), min(want.span.stop, high)
        if start < stop:
            first = start if last == low else min(first, start)
            last = max(last, stop)
    return Span(first, last)
