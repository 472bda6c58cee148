"""Answers clients: who may come in, which resource, which bytes, which status.

All routes of a frontend, the one that never waits, the one that may and that of shortcuts, go
through `_judge`, so no check can be passed by.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import attrs

from cachestream.abc import Answer, AnswerHead, Handler, RequestHead, Shortcut
from cachestream.core.access import AccessPolicy, Denial, cors_fields, judge_client
from cachestream.core.decisions import Outcome
from cachestream.core.ranges import RangeSpec, content_range, parse_range
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.core.urls import display, origin_of, source_of
from cachestream.core.validators import Precondition, evaluate_preconditions, if_range_matches
from cachestream.errors import (
    AccessDeniedError,
    CacheStreamError,
    InvalidURLError,
    RangeNotSatisfiableError,
)
from cachestream.events import RequestAnswered

from .context import EngineContext
from .heads import EMPTY, HeadMaker, error_answer, status_answer
from .pool import ResourcePool
from .resource import Resource
from .shortcuts import shortcut_to

if TYPE_CHECKING:
    from .reader import Reader

__all__ = ["CacheHandler"]

logger: Final = logging.getLogger("cachestream.engine")


@attrs.define(eq=False)
class _Admitted:
    """A request that may be answered.

    Attributes:
        since: When it began to wait, by the loop's clock; None if it is answered at once.
    """

    source: str
    spec: RangeSpec | None
    head: RequestHead
    since: float | None = None


class CacheHandler(Handler):
    """The engine's side of a frontend."""

    def __init__(self, context: EngineContext, pool: ResourcePool) -> None:
        settings = context.settings
        self.context = context
        self.pool = pool
        self._access = AccessPolicy(
            token=settings.token,
            server_names=settings.server_names,
            allow_origins=settings.allow_origins,
        )
        self._heads = HeadMaker(context)
        self._known_origins: set[str] = set()

    # -- the two routes ---------------------------------------------------

    def answer_nowait(self, head: RequestHead) -> Answer | None:
        """Answer from a live resource whose first byte is stored, or a request to refuse."""
        admitted = self._admit(head)
        if isinstance(admitted, Answer):
            self.context.counters.requests += 1
            return admitted
        source = admitted.source
        resource = self.pool.resources.get(self.context.key(source))
        if resource is None or not self._allowed_nowait(source):
            return None
        try:
            answer = self._answer_held(resource, admitted)
        except CacheStreamError as error:
            answer = self._failure(head, error)
        if answer is not None:
            self.context.counters.requests += 1
        return answer

    async def answer(self, head: RequestHead) -> Answer:
        """Answer, waiting for the origin if need be."""
        counters = self.context.counters
        counters.requests += 1
        admitted = self._admit(head)
        if isinstance(admitted, Answer):
            return admitted
        admitted.since = asyncio.get_running_loop().time()
        try:
            if not await self._allowed(admitted.source):
                return self._denied(head, _NOT_ALLOWED)
            resource = self.pool.retain(admitted.source)
            try:
                return await self._answer(resource, admitted)
            finally:
                self.pool.release_resource(resource)
        except CacheStreamError as error:
            return self._failure(head, error)
        except asyncio.CancelledError:
            counters.abandoned += 1
            raise
        except Exception:
            counters.failed += 1
            raise

    # -- who may come in --------------------------------------------------

    def _judge(self, head: RequestHead) -> str | Denial:
        """Return the source that a request names, or why it may not come in; counts nothing.

        Raises:
            InvalidURLError: If it names none.
        """
        denial = judge_client(head.target, head.fields, head.served, self._access)
        if denial is not None:
            return denial
        if head.method not in ("GET", "HEAD"):
            return _WRONG_METHOD
        return source_of(
            head.target, token=self._access.token, schemes=self.context.transport.schemes
        )

    def _admit(self, head: RequestHead) -> _Admitted | Answer:
        try:
            judged = self._judge(head)
        except InvalidURLError as error:
            return self._failure(head, error)
        if judged is _WRONG_METHOD:
            self.context.counters.denied += 1
            return status_answer(judged.status, judged.detail, ("Allow", "GET, HEAD"))
        if isinstance(judged, Denial):
            return self._denied(head, judged)
        return _Admitted(judged, self._range(head), head)

    def shortcut(self, head: RequestHead) -> Shortcut | None:
        """Let requests like this one be answered from a resource that is held as a whole."""
        if head.method != "GET" or _has_preconditions(head):
            return None
        try:
            source = self._judge(head)
        except InvalidURLError:
            return None
        if isinstance(source, Denial):
            return None
        resource = self.pool.resources.get(self.context.key(source))
        if resource is None or not self._allowed_nowait(source):
            return None
        return shortcut_to(resource, self._heads, cors_fields(head.fields, self._access))

    @staticmethod
    def _range(head: RequestHead) -> RangeSpec | None:
        """Return the one range asked for; several, or a malformed one, are ignored (§14.2)."""
        value = head.fields.get("range")
        if value is None or head.method != "GET":
            return None
        specs = parse_range(value)
        return specs[0] if specs is not None and len(specs) == 1 else None

    def _allowed_nowait(self, source: str) -> bool:
        """Tell whether clients may name this upstream, as far as is known in memory."""
        if self.context.upstream_policy.allows(source):
            return True
        origin = origin_of(source)
        return origin in self.context.named_origins or origin in self._known_origins

    async def _allowed(self, source: str) -> bool:
        """Rule S5: hosts the program named, hosts in the index, and those allow-listed."""
        if self._allowed_nowait(source):
            return True
        origin = origin_of(source)
        if await self.context.store.has_authority(origin):
            self._known_origins.add(origin)
            return True
        return False

    # -- answering --------------------------------------------------------

    def _answer_held(self, resource: Resource, admitted: _Admitted) -> Answer | None:
        """Answer from what is held, or None."""
        representation = resource.representation
        if resource.held is None or representation is None or resource.closed:
            return None
        if not resource.is_current:
            return None
        early = self._precondition(admitted, representation)
        if early is not None:
            return self._count_early(early, Outcome.HIT, admitted)
        spec = self._effective_range(admitted, representation)
        if admitted.head.method == "HEAD":
            return self._head_answer(resource, representation, admitted, Outcome.HIT)
        reader = resource.obtain_nowait(spec)
        if reader is None:
            return None
        return self._body_answer(resource, reader, admitted, spec, Outcome.HIT)

    async def _answer(self, resource: Resource, admitted: _Admitted) -> Answer:
        self._forward(resource, admitted.head)
        await resource.ready()
        answer = self._answer_held(resource, admitted)
        if answer is not None:
            return answer
        outcome = Outcome.MISS if resource.held is None else Outcome.PARTIAL
        if admitted.head.method == "HEAD":
            representation = await resource.head()
            early = self._precondition(admitted, representation)
            if early is not None:
                return self._count_early(early, outcome, admitted)
            return self._head_answer(resource, representation, admitted, outcome)
        spec = admitted.spec
        if resource.held is not None and resource.representation is not None:
            spec = self._effective_range(admitted, resource.representation)
        elif "if-range" in admitted.head.fields:
            spec = None  # whether it holds is known after the first head only
        reader, spec = await self._obtain(resource, admitted, spec)
        early = self._precondition(admitted, reader.entry.representation)
        if early is not None:
            reader.close()
            return self._count_early(early, outcome, admitted)
        return self._body_answer(reader.resource, reader, admitted, spec, outcome)

    async def _obtain(
        self, resource: Resource, admitted: _Admitted, spec: RangeSpec | None
    ) -> tuple[Reader, RangeSpec | None]:
        """Return a reader, and the range it reads.

        The version may have changed while the first byte was waited for. A range whose
        If-Range was right for the old one must not be answered from the new one: the client
        would join the two.
        """
        try:
            reader = await self.pool.obtain(resource, spec)
        except RangeNotSatisfiableError:
            known = resource.representation
            if spec is None or known is None or self._effective_range(admitted, known) == spec:
                raise
        else:
            known = reader.entry.representation
            if spec is None or self._effective_range(admitted, known) == spec:
                return reader, spec
            reader.close()
        return await self.pool.obtain(resource, None), None

    def _forward(self, resource: Resource, head: RequestHead) -> None:
        """Remember the client's fields that go upstream (engine rule 13)."""
        names = {name.lower() for name in resource.settings.forward_fields}
        if names:
            resource.forwarded = head.fields.filter(lambda name: name in names)

    @staticmethod
    def _precondition(admitted: _Admitted, representation: Representation) -> Answer | None:
        """Evaluate If-Match and its kin (RFC 9110 §13.2)."""
        if not _has_preconditions(admitted.head):
            return None  # most requests have none, and dates are dear to parse
        outcome = evaluate_preconditions(
            admitted.head.method,
            admitted.head.fields,
            entity_tag=representation.entity_tag,
            last_modified=representation.last_modified,
        )
        if outcome is Precondition.PROCEED:
            return None
        if outcome is Precondition.FAILED:
            return status_answer(412, "a precondition of the request failed")
        kept = representation.fields.filter(lambda name: name in _NOT_MODIFIED_FIELDS)
        return Answer(AnswerHead(304, kept), (("Cache-Status", "cachestream; hit"),), None, EMPTY)

    @staticmethod
    def _effective_range(admitted: _Admitted, representation: Representation) -> RangeSpec | None:
        """Drop the range if its If-Range does not hold (RFC 9110 §13.1.5)."""
        condition = admitted.head.fields.get("if-range")
        if condition is None or admitted.spec is None:
            return admitted.spec
        holds = if_range_matches(
            condition,
            entity_tag=representation.entity_tag,
            last_modified=representation.last_modified,
            strong_date=representation.strong_date,
        )
        return admitted.spec if holds else None

    def _head_answer(
        self,
        resource: Resource,
        representation: Representation,
        admitted: _Admitted,
        outcome: Outcome,
    ) -> Answer:
        head = self._heads.make(resource, representation, 200)
        extra = self._heads.own_fields(resource, representation, outcome)
        self._note(resource, 200, outcome, admitted)
        return Answer(head, extra, representation.complete_length, EMPTY)

    def _body_answer(
        self,
        resource: Resource,
        reader: Reader,
        admitted: _Admitted,
        spec: RangeSpec | None,
        outcome: Outcome,
    ) -> Answer:
        representation = reader.entry.representation
        length = representation.complete_length
        # A reader that began before the length was known reads all, though it is known by now.
        partial = spec is not None and length is not None and not reader.open_ended
        status = 206 if partial else 200
        span: Span = reader.remaining
        if outcome is Outcome.HIT and not reader.entry.spans.covers(span):
            outcome = Outcome.PARTIAL
        head = self._heads.make(resource, representation, status)
        extra = self._heads.own_fields(resource, representation, outcome)
        if partial:
            extra = (("Content-Range", content_range(span, length)), *extra)
        extra = (*extra, *cors_fields(admitted.head.fields, self._access))
        self._note(resource, status, outcome, admitted)
        return Answer(head, extra, None if length is None else len(span), reader)

    def _note(self, resource: Resource, status: int, outcome: Outcome, admitted: _Admitted) -> None:
        self._count(outcome, admitted)
        if self.context.tells_answers:
            self.context.emit(RequestAnswered(resource.source, status, outcome.value))

    def _count(self, outcome: Outcome, admitted: _Admitted) -> None:
        """Count an answer, and how long its client waited unless it was there at once."""
        counters = self.context.counters
        counters.count(outcome)
        if admitted.since is not None:
            waited = asyncio.get_running_loop().time() - admitted.since
            counters.waits[outcome].observe(waited)

    def _count_early(self, answer: Answer, outcome: Outcome, admitted: _Admitted) -> Answer:
        self._count(outcome, admitted)
        return answer

    # -- failures ---------------------------------------------------------

    def _denied(self, head: RequestHead, denial: Denial) -> Answer:
        self.context.counters.denied += 1
        logger.info("denied %s: %s", display(head.target), denial.detail)
        return status_answer(denial.status, denial.detail)

    def _failure(self, head: RequestHead, error: CacheStreamError) -> Answer:
        logger.info("%s %s failed: %s", head.method, display(head.target), error)
        answer, counters = error_answer(error), self.context.counters
        if answer.head.status >= 500:
            counters.failed += 1
        elif isinstance(error, InvalidURLError | AccessDeniedError):
            counters.denied += 1
        else:
            counters.refused += 1
        return answer


def _has_preconditions(head: RequestHead) -> bool:
    return any(name[:3].lower() == "if-" for name, _ in head.fields)


_WRONG_METHOD: Final = Denial(405, "only GET and HEAD are answered here")

_NOT_ALLOWED: Final = Denial(
    403, "this upstream host may not be asked through here; name it in the program or allow it"
)

_NOT_MODIFIED_FIELDS: Final = frozenset(
    {"cache-control", "content-location", "date", "etag", "expires", "last-modified", "vary"}
)
"""What a 304 carries (RFC 9110 §15.4.5)."""
