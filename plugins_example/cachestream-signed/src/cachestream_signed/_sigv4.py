"""Signature Version 4 of Amazon Web Services, as S3 and its likes check it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
from cachestream.abc import UpstreamRequest
from cachestream.errors import CacheStreamError, ConfigurationError

from cachestream_signed import _sigv4_refusals as refusals
from cachestream_signed._errors import CredentialsError
from cachestream_signed._query import strict_path, strict_query
from cachestream_signed._signer import Refusal, Signer

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials

__all__ = ["SigV4"]

_INSTALL: Final = "Install it with: pip install 'cachestream-signed[sigv4]'"
_PATIENCE_S: Final = 30.0

# Of the fields that are sent, those that are signed: a proxy may change others on the way.
_SIGNED: Final = ("range", "if-range")

# What an older signature left in the query; two of them are refused.
_OLD: Final = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)


class SigV4(Signer):
    """Signs with an access key of AWS, or of a server that speaks its S3 protocol.

    Credentials are those that are given, else what botocore's chain finds: the environment,
    profiles, containers, instances. Those that end are renewed in time, off the event loop, and
    once more when S3 says that they have ended.

    The content is not signed, as there is none. Ranges are. A URL that was signed by somebody
    else has that signature taken away.

    Args:
        origins: As for `Signer`.
        region: The region, such as ``eu-west-1``; None for that of the profile or of
            AWS_DEFAULT_REGION, else ``us-east-1``.
        service: The service that is asked; ``s3`` has rules of its own.
        profile: Which profile of the shared configuration; None for the default.
        access_key: The key's name; needs ``secret_key``.
        secret_key: The key.
        session_token: What comes with temporary keys.
        credentials: Credentials of botocore, for a chain of one's own.
        query: Sign in the query instead of the Authorization field.
        lifetime: Seconds that a signature in the query lasts, at most a week.
        clock: Seconds since the epoch.
        more: As for `Signer`.

    Raises:
        ConfigurationError: If botocore is missing, or arguments contradict each other.
    """

    # A listener learns a signature of one request, which ends after minutes.
    sends_secret = False
    refusals = frozenset({400, 401, 403})

    def __init__(
        self,
        *origins: str,
        region: str | None = None,
        service: str = "s3",
        profile: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        credentials: Credentials | None = None,
        query: bool = False,
        lifetime: int = 3600,
        clock: Callable[[], float] = time.time,
        **more: Any,
    ) -> None:
        super().__init__(*origins, **more)
        if (access_key is None) != (secret_key is None):
            raise ConfigurationError("access_key and secret_key belong together: give both")
        if sum(each is not None for each in (access_key, profile, credentials)) > 1:
            raise ConfigurationError("give one of access_key, profile and credentials, not two")
        if not 1 <= lifetime <= 7 * 24 * 3600:
            raise ConfigurationError(
                f"lifetime={lifetime!r} is wrong: it is between 1 second and a week"
            )
        self.region, self.service = region, service
        self._sign = _signature(service=service, query=query, lifetime=lifetime)
        self._profile = profile
        self._given = credentials
        if access_key is not None:
            self._given = _fixed(access_key, secret_key, session_token)
        self._found: Credentials | None = self._given
        self._finding = asyncio.Lock()
        self._renewing = asyncio.Lock()
        self._clock = clock

    async def sign(self, request: UpstreamRequest) -> UpstreamRequest:
        credentials = await self._current()
        if self.region is None:
            self.region = await self._off_loop(self._look_up_region)
        url = strict_query(request.url, without=_OLD)
        if self.service == "s3":
            url = strict_path(url)
        signed = {name: request.fields.get(name) for name in _SIGNED}
        lines = {name: value for name, value in signed.items() if value is not None}
        now = self._clock()
        url, added = self._sign(request.method, url, lines, credentials, now, self.region)
        return attrs.evolve(request, url=url, fields=request.fields.replace(*added))

    async def _current(self) -> ReadOnlyCredentials:
        from botocore.credentials import RefreshableCredentials

        found = self._found
        if found is None:
            async with self._finding:
                if self._found is None:
                    self._found = await self._off_loop(self._look_up)
                found = self._found
        if isinstance(found, RefreshableCredentials) and found.refresh_needed():
            # It has a lock of its own: one refresh for all who wait.
            frozen: ReadOnlyCredentials = await self._off_loop(found.get_frozen_credentials)
            return frozen
        return found.get_frozen_credentials()

    async def _off_loop(self, function: Callable[[], Any]) -> Any:
        """Let botocore read files and ask endpoints in a thread."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await asyncio.to_thread(function)
        except (BotoCoreError, ClientError, TimeoutError, RuntimeError) as exc:
            raise CredentialsError(
                f"AWS credentials{self._of_profile} cannot be had: {type(exc).__name__}",
                hint="See the cause; `aws sts get-caller-identity` asks the same chain",
            ) from exc

    def _look_up(self) -> Credentials:
        from botocore.session import Session

        found = Session(profile=self._profile).get_credentials()
        if found is None:
            raise CredentialsError(
                f"there are no AWS credentials{self._of_profile}",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile",
            )
        return found

    def _look_up_region(self) -> str:
        from botocore.session import Session

        return Session(profile=self._profile).get_config_variable("region") or "us-east-1"

    @property
    def _of_profile(self) -> str:
        return "" if self._profile is None else f" of profile {self._profile!r}"

    async def renew(self, sent: UpstreamRequest, refusal: Refusal) -> bool:
        if self._given is not None or refusals.code_of(refusal.content) not in refusals.ENDED:
            return False
        refused = refusals.token_of(sent)
        async with self._renewing:
            # Those that were refused together find that the first one has renewed already.
            if (await self._current()).token == refused:
                self._found = await self._off_loop(self._look_up)
            return bool((await self._current()).token != refused)

    def explain(self, sent: UpstreamRequest, refusal: Refusal) -> CacheStreamError | None:
        return refusals.explain(sent, refusal, region=self.region or "")


_Signature = Callable[
    [str, str, dict[str, str], "ReadOnlyCredentials", float, str],
    tuple[str, list[tuple[str, str]]],
]


def _signature(*, service: str, query: bool, lifetime: int) -> _Signature:
    """Return what makes a URL and new fields of a request, a key, the time and the region."""
    try:
        from cachestream_signed._sigv4_botocore import sign
    except ImportError as exc:
        raise ConfigurationError("SigV4 needs the package botocore", hint=_INSTALL) from exc
    return lambda method, url, fields, credentials, now, region: sign(
        method,
        url,
        fields,
        credentials,
        now,
        service=service,
        region=region,
        lifetime=lifetime if query else None,
    )


def _fixed(access_key: str, secret_key: str | None, session_token: str | None) -> Credentials:
    from botocore.credentials import Credentials

    return Credentials(access_key, secret_key, session_token)
