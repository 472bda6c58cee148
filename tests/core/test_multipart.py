"""What a parser finds in an answer of several parts is what was put in."""

import email
import email.policy

from hypothesis import given
from hypothesis import strategies as st

from cachestream.core.multipart import ByteRanges
from cachestream.core.spans import Span

CONTENT = bytes(range(256)) * 8
SPANS = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(1, 48)).map(lambda pair: Span(pair[0], sum(pair))),
    min_size=1,
    max_size=16,
).map(tuple)
TYPES = st.sampled_from([None, "video/mp4", 'text/plain; charset="utf-8"'])


def written(parts: ByteRanges) -> bytes:
    """Return an answer's content."""
    return b"".join(
        piece if isinstance(piece, bytes) else CONTENT[piece.start : piece.stop] for piece in parts
    )


@given(SPANS, TYPES)
def test_a_parser_finds_the_parts(spans, media_type):
    """In order, each with its range and type, and with each of its bytes."""
    parts = ByteRanges(
        spans=spans, complete_length=len(CONTENT), media_type=media_type, boundary="0f" * 16
    )
    head = f"MIME-Version: 1.0\r\nContent-Type: {parts.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + written(parts), policy=email.policy.HTTP)
    assert not message.defects
    found = list(message.iter_parts())
    assert len(found) == len(spans)
    for span, part in zip(spans, found, strict=True):
        told = f"bytes {span.start}-{span.stop - 1}/{len(CONTENT)}"
        assert part["Content-Range"] == told
        if media_type is not None:
            assert part["Content-Type"] == media_type


@given(SPANS, TYPES)
def test_the_length_is_that_of_what_is_sent(spans, media_type):
    """It is known before a byte of the content is."""
    parts = ByteRanges(
        spans=spans, complete_length=len(CONTENT), media_type=media_type, boundary="0f" * 16
    )
    assert parts.length == len(written(parts))


def test_the_framing_is_that_of_the_rfc():
    """Byte by byte, as in the example of RFC 9110 §15.3.7.2."""
    parts = ByteRanges(
        spans=(Span(10, 13), Span(20, 22)),
        complete_length=2048,
        media_type="application/pdf",
        boundary="THIS",
    )
    assert written(parts) == (
        b"--THIS\r\n"
        b"Content-Type: application/pdf\r\n"
        b"Content-Range: bytes 10-12/2048\r\n"
        b"\r\n"
        b"\x0a\x0b\x0c\r\n"
        b"--THIS\r\n"
        b"Content-Type: application/pdf\r\n"
        b"Content-Range: bytes 20-21/2048\r\n"
        b"\r\n"
        b"\x14\x15\r\n"
        b"--THIS--\r\n"
    )
