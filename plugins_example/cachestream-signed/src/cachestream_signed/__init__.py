"""Signs what cachestream asks origins for: a transport, and the signatures it can make.

    transport = SignedTransport([
        SigV4("films.s3.eu-west-1.amazonaws.com", region="eu-west-1"),
        Bearer("api.example.com", token=TokenFile("/run/secrets/token")),
    ])
    async with CacheManager(transport=transport) as cache: ...

Each rule names the origins that it signs for; nothing is signed for any other one. To make a
signature of your own, subclass `Signer`.
"""

from cachestream_signed._bearer import Bearer
from cachestream_signed._errors import CredentialsError, SignatureRefusedError
from cachestream_signed._hmac_query import HmacQuery, SecureLink, TempUrl
from cachestream_signed._netrc import Netrc
from cachestream_signed._oauth2 import OAuth2
from cachestream_signed._options import Options, parse_rule
from cachestream_signed._origins import OriginPattern
from cachestream_signed._signer import Refusal, Signer
from cachestream_signed._sigv4 import SigV4
from cachestream_signed._tokens import Token, TokenFile, TokenSource
from cachestream_signed._transport import SignedTransport

__all__ = [
    "Bearer",
    "CredentialsError",
    "HmacQuery",
    "Netrc",
    "OAuth2",
    "Options",
    "OriginPattern",
    "Refusal",
    "SecureLink",
    "SigV4",
    "SignatureRefusedError",
    "SignedTransport",
    "Signer",
    "TempUrl",
    "Token",
    "TokenFile",
    "TokenSource",
    "parse_rule",
]
