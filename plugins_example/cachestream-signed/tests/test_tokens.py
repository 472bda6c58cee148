"""Bearer tokens: one renewal for all, in time, and what happens when it fails."""

import asyncio
import threading

import pytest
from cachestream.errors import ConfigurationError, TransportError, UpstreamTimeoutError

from cachestream_signed import CredentialsError, Token, TokenFile, TokenSource, _tokens
from cachestream_signed._tokens import TokenFunction, TokenKeeper
from support import Clock


class Source(TokenSource):
    """Gives t1, t2, … each of which lives for a time; waits if it is told to."""

    def __init__(self, clock, lifetime=100.0):
        self.clock, self.lifetime = clock, lifetime
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = None

    async def token(self):
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Token(f"t{number}", self.clock() + self.lifetime, self.clock())


@pytest.fixture
def clock():
    return Clock(1000.0)


@pytest.fixture
def source(clock):
    return Source(clock)


@pytest.fixture
def keeper(source, clock):
    return TokenKeeper(source, clock)


async def values(keeper, count):
    """Ask for many tokens at a time."""
    tokens = await asyncio.gather(*(keeper.current() for _ in range(count)))
    return {token.value for token in tokens}


@pytest.mark.asyncio
async def test_many_who_want_a_token_ask_for_one(keeper, source):
    """Requests that begin together share one renewal."""
    source.gate.clear()
    waiting = asyncio.ensure_future(values(keeper, 50))
    while source.asked == 0:
        await asyncio.sleep(0)
    source.gate.set()
    assert await waiting == {"t1"}
    assert await values(keeper, 50) == {"t1"}
    assert source.asked == 1


@pytest.mark.asyncio
async def test_a_token_is_renewed_before_it_ends(keeper, source, clock):
    """A tenth of its life before its end, and by one request alone."""
    assert await values(keeper, 3) == {"t1"}
    clock.now += 89.0
    assert await values(keeper, 3) == {"t1"}
    clock.now += 1.5
    assert "t2" in await values(keeper, 3)
    assert await values(keeper, 3) == {"t2"}
    assert source.asked == 2


@pytest.mark.asyncio
async def test_nobody_waits_for_a_renewal_while_the_old_token_counts(keeper, source, clock):
    """Only who renews waits; the others go on with what they have."""
    await keeper.current()
    clock.now += 95.0
    source.gate.clear()
    renewing = asyncio.ensure_future(keeper.current())
    while source.asked == 1:
        await asyncio.sleep(0)
    assert await values(keeper, 20) == {"t1"}
    source.gate.set()
    assert (await renewing).value == "t2"


@pytest.mark.asyncio
async def test_a_renewal_that_fails_early_is_no_failure(keeper, source, clock):
    """The old token is used while it counts, and the source is left alone for a few seconds."""
    await keeper.current()
    clock.now += 92.0
    source.error = TransportError("down")
    assert await values(keeper, 5) == {"t1"}
    assert await values(keeper, 5) == {"t1"}
    assert source.asked == 2
    clock.now += _tokens.PAUSE_S
    assert await values(keeper, 5) == {"t1"}
    assert source.asked == 3
    source.error = None
    clock.now += 5.0
    assert await values(keeper, 5) == {"t4"}


@pytest.mark.asyncio
async def test_all_who_waited_get_the_failure_of_one_renewal(keeper, source):
    """A source that fails is not asked again by each of those who waited for it."""
    source.error = TransportError("down")
    source.gate.clear()
    waiting = asyncio.gather(*(keeper.current() for _ in range(20)), return_exceptions=True)
    while source.asked == 0:
        await asyncio.sleep(0)
    source.gate.set()
    assert set(map(type, await waiting)) == {TransportError}
    assert source.asked == 1
    source.error = None
    assert await values(keeper, 1) == {"t2"}


@pytest.mark.asyncio
async def test_many_refusals_of_one_token_are_one_renewal(keeper, source):
    """Requests that were sent with the same token get another one together."""
    token = await keeper.current()
    renewed = await asyncio.gather(*(keeper.replace(token.value) for _ in range(30)))
    assert all(renewed)
    assert source.asked == 2
    assert await keeper.replace(token.value)
    assert source.asked == 2
    assert await values(keeper, 3) == {"t2"}


@pytest.mark.asyncio
async def test_who_gives_up_does_not_take_the_others_along(keeper, source):
    """A renewal whose request was cancelled is done by the next one who waits."""
    source.gate.clear()
    first = asyncio.ensure_future(keeper.current())
    while source.asked == 0:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(keeper.current())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.gate.set()
    assert (await second).value == "t2"


@pytest.mark.asyncio
async def test_a_source_that_never_answers_is_given_up(keeper, source, monkeypatch):
    """There is a limit to every wait, and it says what was waited for."""
    monkeypatch.setattr(_tokens, "PATIENCE_S", 0.05)
    source.gate.clear()
    with pytest.raises(UpstreamTimeoutError) as caught:
        await keeper.current()
    assert "no token came" in str(caught.value)


@pytest.mark.asyncio
async def test_a_file_is_read_for_every_request(tmp_path):
    """A token that a supervisor puts in place of another one counts at once."""
    path = tmp_path / "token"
    path.write_text("first\n")
    keeper = TokenKeeper(TokenFile(path))
    assert (await keeper.current()).value == "first"
    path.write_text("  second \n")
    assert (await keeper.current()).value == "second"
    assert not await keeper.replace("second")
    path.write_text("third")
    assert await keeper.replace("second")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "content", [b"", b"two words", b"canary\ncanary", b"\xff\x00", b"a" * 99999]
)
async def test_a_file_without_a_token_is_a_clear_error(tmp_path, content):
    """What cannot be sent as a token is refused, and not shown."""
    path = tmp_path / "token"
    path.write_bytes(content)
    if content.startswith(b"aaa"):
        assert len((await TokenFile(path).token()).value) == 64 * 1024
        return
    with pytest.raises(CredentialsError) as caught:
        await TokenFile(path).token()
    assert "canary" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_file_that_is_missing_is_a_clear_error(tmp_path):
    """The error names the file."""
    with pytest.raises(CredentialsError) as caught:
        await TokenKeeper(TokenFile(tmp_path / "none")).current()
    assert str(tmp_path / "none") in str(caught.value)
    with pytest.raises(ConfigurationError):
        TokenFile("~nobody-is-called-so/token")


@pytest.mark.asyncio
async def test_functions_may_block_or_be_asynchronous():
    """One that blocks runs in a thread; either may give a text, or a token with an end."""
    here = threading.get_ident()
    threads = []

    def blocking():
        threads.append(threading.get_ident())
        return "text"

    async def asynchronous():
        return Token("token", 1.0)

    assert (await TokenFunction(blocking).token()).value == "text"
    assert threads != [here]
    assert (await TokenFunction(asynchronous).token()).expires_at == 1.0
    assert (await TokenFunction(lambda: asynchronous()).token()).value == "token"


@pytest.mark.asyncio
async def test_what_a_function_raises_is_not_repeated():
    """Its text may have a secret in it; the cause is chained for who debugs."""

    def broken():
        raise RuntimeError("canary")

    with pytest.raises(CredentialsError) as caught:
        await TokenKeeper(TokenFunction(broken)).current()
    assert "canary" not in str(caught.value)
    assert "RuntimeError" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_token_does_not_show_itself():
    """Neither does the error about one that cannot be sent."""
    assert "canary" not in repr(Token("canary"))
    with pytest.raises(CredentialsError) as caught:
        Token("canary with spaces")
    assert "canary" not in str(caught.value)
