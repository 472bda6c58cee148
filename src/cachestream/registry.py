"""Finds transports, stores and frontends by name: ours, and those of other distributions.

Looking around reads metadata only; a plug-in is imported when its name is used, so a
broken one never stops a program that does not use it. Our own are listed in the same
entry-point groups as a stranger's, and a stranger can neither replace nor hide them.

    CACHESTREAM_PLUGINS=off           only ours
    CACHESTREAM_PLUGINS=s3,signed     ours, and those two

A name that two distributions claim is a `PluginConflictError` when it is used; write
``"distribution:name"`` to say which one is meant.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Final, Literal, NoReturn, TypeAlias

import attrs

from cachestream.abc import API_VERSION, Frontend, Store, Transport
from cachestream.errors import (
    PluginConflictError,
    PluginError,
    PluginLoadError,
    PluginNotFoundError,
)

__all__ = ["GROUPS", "KINDS", "Kind", "PluginInfo", "Registry"]

Kind: TypeAlias = Literal["transport", "store", "frontend"]
Status: TypeAlias = Literal["ok", "broken", "disabled", "conflict"]

KINDS: Final[tuple[Kind, ...]] = ("transport", "store", "frontend")
"""The kinds of plug-in, in the order in which they are listed."""

GROUPS: Final[Mapping[Kind, str]] = {kind: f"cachestream.{kind}s" for kind in KINDS}
"""The entry-point group of each kind."""

INTERFACES: Final[Mapping[Kind, type]] = {
    "transport": Transport,
    "store": Store,
    "frontend": Frontend,
}
OWN: Final = "cachestream"  # the distribution whose names nobody else can claim
BY_HAND: Final = "(registered)"  # stands for the distribution of what `register` was given
VARIABLE: Final = "CACHESTREAM_PLUGINS"

_logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class PluginInfo:
    """One plug-in, as far as it is known.

    Attributes:
        kind: Which interface it implements.
        name: The word a user writes.
        distribution: The distribution it came with, its name normalised.
        version: That distribution's version, empty if unknown.
        target: ``module:attribute``.
        status: ``ok`` if nothing is known against it (only after a load is that more than
            metadata); ``broken`` if it was loaded in vain; ``conflict`` if others claim
            the name too; ``disabled`` if it was left out, or its name is one of ours.
        detail: Why it is not ``ok``.
        doc: First line of its docstring, known only after it was loaded.
    """

    kind: Kind
    name: str
    distribution: str
    version: str
    target: str
    status: Status = "ok"
    detail: str = ""
    doc: str = ""

    @property
    def qualified_name(self) -> str:
        """``distribution:name``, which says which one is meant."""
        return f"{self.distribution}:{self.name}"

    @property
    def origin(self) -> str:
        """The distribution with its version, as messages name it."""
        return f"{self.distribution} {self.version}".rstrip()


@attrs.frozen
class _Candidate:
    """A plug-in that could be used: what is known of it, and how to get it."""

    info: PluginInfo
    source: EntryPoint | type

    @property
    def usable(self) -> bool:
        return self.info.status != "disabled"


class Registry:
    """All plug-ins that can be used by name; nothing is looked up before it is asked for.

    Args:
        plugins: Which plug-ins of other distributions may be used: ``all``, ``off``, or
            names with commas between them. None means what ``CACHESTREAM_PLUGINS`` says.

    Example:
        >>> Registry("off").listing()[0].name
        'filesystem'
    """

    def __init__(self, plugins: str | None = None) -> None:
        self._chosen = _parse_choice(os.environ.get(VARIABLE) if plugins is None else plugins)
        self._discovered: tuple[_Candidate, ...] | None = None
        self._by_hand: dict[tuple[Kind, str], _Candidate] = {}
        self._loaded: dict[tuple[Kind, str], type] = {}

    def get(self, kind: Kind, name: str) -> type[Any]:
        """Return the class that ``name`` stands for, importing it at its first use.

        Args:
            name: A plug-in's name, or ``distribution:name``.

        Raises:
            PluginNotFoundError: If nothing is called so, or the environment left it out.
            PluginConflictError: If two distributions claim the name.
            PluginLoadError: If importing it failed, or it is none of its kind; see the cause.
        """
        candidate = self._resolve(kind, name)
        key = (kind, candidate.info.qualified_name)
        if key not in self._loaded:
            self._loaded[key] = _load(candidate)
        return self._loaded[key]

    def register(self, kind: Kind, name: str, cls: type) -> None:
        """Add a class by hand; it goes before one of the same name that was discovered.

        Raises:
            PluginConflictError: If the name is one of ours, or already registered.
            PluginLoadError: If the class is none of its kind.
        """
        info = PluginInfo(
            kind=kind,
            name=name,
            distribution=BY_HAND,
            version="",
            target=f"{cls.__module__}:{cls.__qualname__}",
        )
        for candidate in self._named(kind, name):
            if candidate.info.distribution in (OWN, BY_HAND) and candidate.usable:
                raise PluginConflictError(
                    f"the {kind} {name!r} cannot be registered: "
                    f"{candidate.info.target} of {candidate.info.origin} has that name",
                    hint="Choose another name.",
                )
        _check(info, cls)
        self._by_hand[kind, name] = _Candidate(info, cls)

    def listing(self, *, load: bool = False) -> tuple[PluginInfo, ...]:
        """Return what is known of every plug-in, by kind and name.

        Args:
            load: Whether to import those that can be used, to learn whether they work.
        """
        infos = [self._described(candidate, load=load) for candidate in self._all()]
        return tuple(sorted(infos, key=lambda i: (KINDS.index(i.kind), i.name, i.distribution)))

    def _described(self, candidate: _Candidate, *, load: bool) -> PluginInfo:
        info = self._with_rivals(candidate)
        if not load or not candidate.usable:
            return info
        try:
            doc = _first_line(self.get(info.kind, info.qualified_name).__doc__)
        except PluginError as error:
            return attrs.evolve(info, status="broken", detail=_reason(error))
        return attrs.evolve(info, doc=doc)

    def _with_rivals(self, candidate: _Candidate) -> PluginInfo:
        """Return its facts, with a note of who else claims its name."""
        info = candidate.info
        rivals = [
            other.info.origin
            for other in self._named(info.kind, info.name)
            if other is not candidate and other.usable
        ]
        if not rivals or not candidate.usable or info.distribution in (OWN, BY_HAND):
            return info
        detail = f"claimed by {' and '.join(rivals)} too; write {info.qualified_name!r}"
        return attrs.evolve(info, status="conflict", detail=detail)

    def _resolve(self, kind: Kind, name: str) -> _Candidate:
        """Return the one usable candidate that ``name`` stands for."""
        named = self._named(kind, name)
        if not named:
            self._raise_unknown(kind, name)
        usable = _preferred([candidate for candidate in named if candidate.usable])
        if not usable:
            info = named[0].info
            raise PluginNotFoundError(
                f"the {kind} {name!r} of {info.origin} is not used: {info.detail}"
            )
        if len(usable) > 1:
            claims = " and ".join(candidate.info.origin for candidate in usable)
            choices = " or ".join(repr(candidate.info.qualified_name) for candidate in usable)
            raise PluginConflictError(
                f"the {kind} {name!r} is claimed by {claims}", hint=f"Write {choices}."
            )
        return usable[0]

    def _named(self, kind: Kind, name: str) -> list[_Candidate]:
        distribution, separator, bare = name.rpartition(":")
        return [
            candidate
            for candidate in self._all()
            if candidate.info.kind == kind
            and candidate.info.name == bare
            and (not separator or candidate.info.distribution == _normalise(distribution))
        ]

    def _all(self) -> Iterator[_Candidate]:
        if self._discovered is None:
            self._discovered = tuple(_limit(found, self._chosen) for found in _discover())
        yield from self._discovered
        yield from self._by_hand.values()

    def _raise_unknown(self, kind: Kind, name: str) -> NoReturn:
        known = sorted({c.info.name for c in self._all() if c.info.kind == kind and c.usable})
        near = difflib.get_close_matches(name.rpartition(":")[2], known, n=3, cutoff=0.5)
        if near:
            hint = "Did you mean " + " or ".join(repr(word) for word in near) + "?"
        elif known:
            hint = "Known are " + ", ".join(known) + "."
        else:
            hint = f"No metadata of {OWN} is installed: install the package."
        raise PluginNotFoundError(f"no {kind} is called {name!r}", hint=hint)


def _parse_choice(text: str | None) -> frozenset[str] | None:
    """Return the names that may be used, None for all."""
    words = frozenset(word.strip() for word in (text or "all").split(",") if word.strip())
    if "all" in words or not words:
        return None
    return words - {"off"}


def _normalise(name: str) -> str:
    """Return a distribution's name in the one form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _discover() -> Iterator[_Candidate]:
    """Read the metadata of everything installed; the first of two equal names counts."""
    kinds: dict[str, Kind] = {group: kind for kind, group in GROUPS.items()}
    seen: set[str] = set()
    for distribution in distributions():
        name = _normalise(distribution.metadata["Name"] or "")
        if not name or name in seen:
            continue
        seen.add(name)
        for entry_point in _entry_points(distribution, name):
            if entry_point.group in kinds:
                yield _Candidate(
                    PluginInfo(
                        kind=kinds[entry_point.group],
                        name=entry_point.name,
                        distribution=name,
                        version=distribution.version or "",
                        target=entry_point.value,
                    ),
                    entry_point,
                )


def _entry_points(distribution: Distribution, name: str) -> Iterable[EntryPoint]:
    """Return what a distribution declares; nothing if its metadata cannot be parsed."""
    try:
        return distribution.entry_points
    except Exception as error:  # whatever a stranger's file does to the parser
        _logger.warning("the entry points of %s cannot be read: %r", name, error)
        return ()


def _limit(candidate: _Candidate, chosen: frozenset[str] | None) -> _Candidate:
    """Mark a stranger's plug-in as disabled unless it is chosen."""
    info = candidate.info
    if info.distribution == OWN or chosen is None or chosen & {info.name, info.qualified_name}:
        return candidate
    detail = f"{VARIABLE} leaves it out"
    return attrs.evolve(candidate, info=attrs.evolve(info, status="disabled", detail=detail))


def _preferred(candidates: list[_Candidate]) -> list[_Candidate]:
    """Return whom a name could mean: ours alone, else one given by hand, else all."""
    for owner in (OWN, BY_HAND):
        owned = [candidate for candidate in candidates if candidate.info.distribution == owner]
        if owned:
            return owned
    return candidates


def _load(candidate: _Candidate) -> type:
    """Import a plug-in and check that it is one."""
    info, source = candidate.info, candidate.source
    if isinstance(source, type):
        return source
    try:
        loaded = source.load()
    # A plug-in may raise anything while it is imported, and may even try to exit.
    except (Exception, SystemExit) as error:
        raise PluginLoadError(
            f"the {info.kind} {info.name!r} of {info.origin} cannot be loaded from {info.target}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return _check(info, loaded)


def _check(info: PluginInfo, loaded: object) -> type:
    """Return ``loaded`` if it is a class of its kind, for this version of the interfaces."""
    interface = INTERFACES[info.kind]
    if not (isinstance(loaded, type) and issubclass(loaded, interface)):
        raise PluginLoadError(
            f"the {info.kind} {info.name!r} of {info.origin} is no subclass of "
            f"{interface.__module__}.{interface.__name__}: {info.target}"
        )
    version = getattr(loaded, "api_version", None)
    if version != API_VERSION:
        raise PluginLoadError(
            f"the {info.kind} {info.name!r} of {info.origin} is made for version {version} "
            f"of the interfaces; this is version {API_VERSION}",
            hint=f"Install a release of {info.distribution} that is made for it.",
        )
    return loaded


def _reason(error: PluginError) -> str:
    cause = error.__cause__
    return error.message if cause is None else f"{type(cause).__name__}: {cause}"


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]
