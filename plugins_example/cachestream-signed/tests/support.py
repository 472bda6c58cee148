"""What several tests need: requests, readers, nginx, and an OAuth 2.0 server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant, RefreshTokenGrant
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator, JWTBearerTokenValidator
from cachestream import CacheManager
from cachestream.abc import UpstreamRequest
from flask import Flask, Response, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from werkzeug.serving import WSGIRequestHandler, make_server

PATIENCE_S = 60.0
"""How long anything may take on a machine that is busy with other things."""

MIB = 1 << 20


def make_request(url, *fields, source=None, **more):
    """Return a request for a URL."""
    made = UpstreamRequest(url=url, source=source or url, **more)
    return made if not fields else evolve_fields(made, *fields)


def evolve_fields(made, *fields):
    """Return a request with fields set."""
    import attrs

    return attrs.evolve(made, fields=made.fields.replace(*fields))


async def exchange(transport, url, *fields, **more):
    """Prepare one request and send it; return the status and the content."""
    made = await transport.prepare(make_request(url, *fields, **more))
    async with asyncio.timeout(PATIENCE_S):
        async with await transport.fetch(made) as response:
            content = b"".join([bytes(piece) async for piece in response])
            return response.status, content


async def read_url(url, start=None, stop=None):
    """Read a local URL as a player does; return the status and the content."""
    headers = {} if start is None else {"Range": f"bytes={start}-{stop - 1}"}
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        async with session.get(url, headers=headers) as response:
            return response.status, await response.read()


def make_cache(tmp_path, transport, **more):
    """Return a cache in a directory of the test's."""
    options = {"cache_dir": tmp_path / "cache", "min_free": 0, "retry_delay": 0.01} | more
    return CacheManager(transport=transport, **options)


# ---------------------------------------------------------------------------
# nginx
# ---------------------------------------------------------------------------

_NGINX = """
daemon off;
{user}
worker_processes 1;
pid {root}/pid;
error_log {root}/error.log notice;
events {{ worker_connections 128; }}
http {{
    default_type application/octet-stream;
    types {{ }}
    access_log {root}/access.log;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root}/www;
        {locations}
    }}
}}
"""


class Nginx:
    """A real nginx on loopback, a context manager; ``locations`` is part of its configuration.

    It is given a socket that listens already, so that nobody can take the port before it.
    """

    def __init__(self, root: Path, locations: str) -> None:
        self.root = root
        self.www = root / "www"
        self._locations = locations

    def __enter__(self):
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "nginx is missing: apt-get install nginx"
        self.www.mkdir(parents=True)
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        with listener:
            self.port = listener.getsockname()[1]
            text = _NGINX.format(
                root=self.root,
                port=self.port,
                locations=self._locations,
                # Its workers would be somebody else, who may not look into a test's directory.
                user="" if os.getuid() else "user root root;",
            )
            (self.root / "nginx.conf").write_text(text)
            self._process = subprocess.Popen(
                [program, "-p", str(self.root), "-e", "error.log", "-c", "nginx.conf"],
                pass_fds=[listener.fileno()],
                env={"NGINX": f"{listener.fileno()};", "PATH": os.environ["PATH"]},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        return self

    def __exit__(self, *exc):
        # While it starts nginx notes a signal, but acts on it when the next one comes.
        for _ in range(int(PATIENCE_S)):
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
                return
        raise TimeoutError("nginx does not end")

    @property
    def authority(self):
        return f"127.0.0.1:{self.port}"

    def url(self, path):
        return f"http://{self.authority}{path}"

    def add(self, path, content):
        """Serve a file; ``path`` is not percent-encoded."""
        place = self.www / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    async def log(self, complete):
        """Return the lines of the access log once they are ``complete``.

        nginx writes a line after the answer, so it may come after the client has read that.
        """
        async with asyncio.timeout(PATIENCE_S):
            while True:
                path = self.root / "access.log"
                lines = path.read_text().splitlines() if path.exists() else []
                if complete(lines):
                    return lines
                await asyncio.sleep(0.01)


# ---------------------------------------------------------------------------
# OAuth 2.0, by Authlib
# ---------------------------------------------------------------------------

ISSUER = "http://login.test"
AUDIENCE = "films"
CLIENT_ID = "player:1"
CLIENT_SECRET = "canary secret/+%of client"


class _Client:
    """A registered client, in the form that Authlib asks for."""

    def get_client_id(self):
        return CLIENT_ID

    def get_default_redirect_uri(self):
        return None

    def get_allowed_scope(self, scope):
        return scope or "read"

    def check_client_secret(self, secret):
        return secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method, endpoint):
        return method in {"client_secret_basic", "client_secret_post"}

    def check_grant_type(self, grant_type):
        return grant_type in {"client_credentials", "refresh_token"}


class _Generator(JWTBearerTokenGenerator):
    key: OctKey

    def get_jwks(self):
        return self.key

    def get_audiences(self, client, user, scope):
        return AUDIENCE


class _Validator(JWTBearerTokenValidator):
    key: OctKey

    def get_jwks(self):
        return self.key


class _ClientCredentials(ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *args, **kwargs):
        """Write nothing."""


class OAuthServer:
    """A token endpoint and a resource that asks for its tokens; a context manager.

    Attributes:
        issued: The access tokens so far.
        asked: The forms that the token endpoint got.
        requests: What was asked of the resource: range and status.
        lifetime: Seconds that tokens to come are said to live.
        late: Seconds that the resource's clock is ahead of the token endpoint's.
        revoked: Tokens that do not count any more.
        down: Answer with this status at the token endpoint.
        gate: The token endpoint waits for it.
        refresh_token: What a refresh needs; another one after each, if ``rotate`` is set.
    """

    def __init__(self, content: bytes, ssl_context=None) -> None:
        self.content = content
        self._ssl = ssl_context
        self.issued, self.asked, self.requests = [], [], []
        self.lifetime = 3600
        self.revoked = set()
        self.down = None
        self.gate = threading.Event()
        self.gate.set()
        self.refresh_token = "canary-refresh-0"
        self.rotate = False
        self._key = key = OctKey.generate_key(256)
        self._app = app = Flask("oauth")
        app.logger.disabled = True
        issuer = AuthorizationServer(app, self._client, self._save)
        generator = _Generator(
            ISSUER,
            alg="HS256",
            refresh_token_generator=self._next_refresh,
            expires_generator=lambda *_: self.lifetime,
        )
        generator.key = key
        issuer.register_token_generator("default", generator)
        issuer.register_grant(_ClientCredentials)
        issuer.register_grant(self._refresh_grant())
        validator = _Validator(ISSUER, AUDIENCE)
        validator.key = key
        protector = ResourceProtector()
        protector.register_token_validator(validator)
        app.add_url_rule("/token", "token", lambda: self._token(issuer), methods=["POST"])
        app.add_url_rule("/film", "film", lambda: self._film(protector))

    def check(self, asked):
        """Return 401 for an `Origin` unless a request has a token that counts."""
        token = (asked.fields.get("Authorization") or "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
            registry = jwt.JWTClaimsRegistry(
                iss={"essential": True, "value": ISSUER},
                aud={"essential": True, "value": AUDIENCE},
                exp={"essential": True},
            )
            registry.validate(claims)
        except JoseError:
            return 401
        return 401 if token in self.revoked else None

    def _client(self, client_id):
        return _Client() if client_id == CLIENT_ID else None

    def _save(self, token, _request):
        self.issued.append(token["access_token"])

    def _next_refresh(self, *_args, **_kwargs):
        if self.rotate:
            self.refresh_token = f"canary-refresh-{len(self.issued) + 1}"
        return self.refresh_token

    def _refresh_grant(server):  # noqa: N805
        class Grant(RefreshTokenGrant):
            INCLUDE_NEW_REFRESH_TOKEN = True

            def authenticate_refresh_token(self, refresh_token):
                return Old() if refresh_token == server.refresh_token else None

            def authenticate_user(self, credential):
                return User()

            def revoke_old_credential(self, credential):
                """Nothing is kept of it."""

        class Old:
            def get_scope(self):
                return "read"

            def check_client(self, client):
                return client.get_client_id() == CLIENT_ID

        class User:
            def get_user_id(self):
                return "somebody"

        return Grant

    def _token(self, issuer):
        self.asked.append(request.form.to_dict())
        assert self.gate.wait(PATIENCE_S)
        if self.down is not None:
            return Response("down", self.down)
        return issuer.create_token_response()

    def _film(self, protector):
        status = 401
        try:
            with protector.acquire("read") as token:
                held = request.headers["Authorization"].removeprefix("Bearer ")
                assert token["aud"] == AUDIENCE
                status = 401 if held in self.revoked else 200
        except Exception:
            status = 401
        if status != 200:
            self.requests.append((request.headers.get("Range"), status))
            return Response("no", status, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
        answer = Response(self.content, mimetype="application/octet-stream")
        answer.set_etag("v1")
        answer.accept_ranges = "bytes"
        answer = answer.make_conditional(
            request, accept_ranges=True, complete_length=len(self.content)
        )
        self.requests.append((request.headers.get("Range"), answer.status_code))
        return answer

    def __enter__(self):
        self._server = make_server(
            "127.0.0.1",
            0,
            self._app,
            threaded=True,
            request_handler=_QuietHandler,
            ssl_context=self._ssl,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.authority = f"127.0.0.1:{self._server.server_port}"
        scheme = "http" if self._ssl is None else "https"
        self.token_url = f"{scheme}://{self.authority}/token"
        self.film_url = f"{scheme}://{self.authority}/film"
        return self

    def __exit__(self, *exc):
        self.gate.set()
        self._server.shutdown()
        self._thread.join(PATIENCE_S)
        self._server.server_close()


class Clock:
    """A clock that is moved by hand."""

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now

    def __call__(self) -> float:
        return self.now


def netloc(url):
    """Return host and port of a URL."""
    return urlsplit(url).netloc
