"""The options of the transport of mirrors, and groups of mirrors by the beginning of a URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from cachestream.core.urls import display, normalize
from cachestream.errors import ConfigurationError, InvalidURLError
from cachestream.transports._mirrors_sampling import Sampling

__all__ = ["MirrorsFunction", "MirrorsOptions", "mirrors_by_prefix"]

MirrorsFunction: TypeAlias = Callable[[str], Sequence[str]]
"""Returns the other URLs of a source URL."""


def mirrors_by_prefix(groups: Mapping[str, str]) -> MirrorsFunction:
    """Return a function that finds the mirrors of a URL by how the URL begins.

    The longest beginning that fits counts; what follows it is appended to each mirror.

    Args:
        groups: From a URL, to its mirrors with spaces between them. A URL that ends in ``/``
            stands for all below it, and so do its mirrors; any other for itself alone.

    Raises:
        ConfigurationError: If one is no http or https URL, a group is empty, or one of it
            ends in ``/`` and another does not.

    Example:
        >>> find = mirrors_by_prefix({"https://a.example/pub/": "https://b.example/"})
        >>> find("https://a.example/pub/film.mp4")
        ['https://b.example/film.mp4']
    """
    known = [_group(prefix, text) for prefix, text in groups.items()]
    known.sort(key=lambda group: -len(group[0]))

    def find(source: str) -> Sequence[str]:
        for prefix, mirrors in known:
            if source == prefix or (prefix.endswith("/") and source.startswith(prefix)):
                return [mirror + source[len(prefix) :] for mirror in mirrors]
        return ()

    return find


def _group(prefix: str, text: str) -> tuple[str, list[str]]:
    urls = [_checked(url) for url in (prefix, *text.split())]
    if len(urls) == 1:
        raise ConfigurationError(f"no mirror is named for {display(urls[0])}")
    folders = [url.endswith("/") for url in urls]
    if len(set(folders)) > 1:
        raise ConfigurationError(
            f"of {display(urls[0])} and its mirrors some end in '/' and some do not",
            hint="With '/' they stand for all below it, without for one URL.",
        )
    return urls[0], urls[1:]


def _checked(url: str) -> str:
    if not url.lower().startswith(("http://", "https://")) or "?" in url or "#" in url:
        raise ConfigurationError(
            f"a mirror is an http or https URL without query, not {display(url)!r}"
        )
    try:
        return normalize(url)
    except InvalidURLError as error:
        raise ConfigurationError(f"a mirror cannot be used: {error}") from None


def _groups(instance: Any, attribute: Any, value: Mapping[str, str]) -> None:
    mirrors_by_prefix(value)


def _positive(instance: Any, attribute: Any, value: float) -> None:
    if value <= 0:
        raise ConfigurationError(f"{attribute.name} is {value:g}; it must be more than 0")


def _not_negative(instance: Any, attribute: Any, value: float) -> None:
    if value < 0:
        raise ConfigurationError(f"{attribute.name} is {value:g}; it must be 0 or more")


@attrs.frozen(kw_only=True)
class MirrorsOptions:
    """Options of `cachestream.transports.MirrorsTransport`."""

    mirrors: Mapping[str, str] = attrs.field(
        factory=dict,
        validator=_groups,
        metadata={
            "help": "from the beginning of a URL to those of its mirrors, with spaces between them"
        },
    )
    trust_length: bool = attrs.field(
        default=False,
        metadata={"help": "take equal length for equal content where no bytes can be compared"},
    )
    cool_down: float = attrs.field(
        default=30.0,
        validator=_not_negative,
        metadata={"help": "for so long a mirror that failed is asked last", "unit": "seconds"},
    )
    samples: int = attrs.field(
        default=Sampling().count,
        validator=_positive,
        metadata={"help": "in how many places a new mirror's bytes are compared with held ones"},
    )
    sample_size: int = attrs.field(
        default=Sampling().size,
        validator=_positive,
        metadata={"help": "how many bytes at each of them, at most", "unit": "bytes"},
    )
    sample_timeout: float = attrs.field(
        default=Sampling().timeout,
        validator=_positive,
        metadata={"help": "how long comparing them may take", "unit": "seconds"},
    )

    @property
    def sampling(self) -> Sampling:
        """How much is compared."""
        return Sampling(count=self.samples, size=self.sample_size, timeout=self.sample_timeout)
