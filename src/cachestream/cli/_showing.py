"""`url`, `plugins` and `completion`: commands that open no cache and import little."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import attrs
import click
from click.shell_completion import get_completion_class

from cachestream.cli._doctor import doctor
from cachestream.cli._exits import EPILOG, Exit, Failure
from cachestream.cli._options import SettingsCommand, with_settings
from cachestream.cli._output import columns, json_option, print_json
from cachestream.cli._serving import DEFAULT_HOST, DEFAULT_PORT
from cachestream.core.urls import UNIX_URL, local_path, normalize
from cachestream.registry import Registry

if TYPE_CHECKING:
    from cachestream.config import Configuration

__all__ = ["completion", "plugins", "url"]

_CHECK_TIMEOUT_S = 2.0


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.argument("sources", nargs=-1, required=True, metavar="URL...")
@with_settings(
    ("host", "port", "socket_path", "public_url", "token"), host=DEFAULT_HOST, port=DEFAULT_PORT
)
@click.option("--check", is_flag=True, help="Fail unless a local server listens there.")
@json_option
def url(given: Configuration, sources: tuple[str, ...], check: bool, as_json: bool) -> None:
    """Print the local URL of each URL, as the server of `serve` understands it.

    Nothing is asked, neither the server nor the origin.
    """
    host, port = given.get("host").strip("[]"), given.get("port")
    path, public = given.get("socket_path"), given.get("public_url")
    base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if path:
        base = UNIX_URL
    if public:
        base = normalize(public).rstrip("/")
    rows = [
        {
            "source": normalize(source),
            "url": base + local_path(source, token=given.get("token")),
        }
        for source in sources
    ]
    if check:
        _require_listener(host, port, path)
    if as_json:
        print_json(rows)
    else:
        click.echo("\n".join(row["url"] for row in rows))


def _require_listener(host: str, port: int, path: str | None) -> None:
    place = path or f"{host} port {port}"
    try:
        if path:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_CHECK_TIMEOUT_S)
                probe.connect(f"\0{path[1:]}" if path.startswith("@") else path)
        else:
            socket.create_connection((host, port), timeout=_CHECK_TIMEOUT_S).close()
    except OSError as error:
        raise Failure(
            f"no server answers at {place}: {error.strerror or error}; "
            "start one with: cachestream serve",
            Exit.UNREACHABLE,
        ) from error


@click.group(epilog=EPILOG, invoke_without_command=True)
@click.option("--check", is_flag=True, help="Import each one; fail if one is broken.")
@json_option
@click.pass_context
def plugins(ctx: click.Context, check: bool, as_json: bool) -> None:
    """List transports, stores and frontends that are installed.

    Only metadata is read, unless --check is given. CACHESTREAM_PLUGINS=off leaves out all
    that are not ours; with names and commas between them it leaves out all others.

    `cachestream plugins doctor NAME` checks one of them from end to end.
    """
    if ctx.invoked_subcommand is not None:
        return
    rows = Registry().listing(load=check)
    if as_json:
        print_json([attrs.asdict(row) for row in rows])
    else:
        head = ("KIND", "NAME", "DISTRIBUTION", "VERSION", "STATUS", "")
        click.echo(
            columns(
                head,
                [
                    (r.kind, r.name, r.distribution, r.version, r.status, r.detail or r.doc)
                    for r in rows
                ],
            )
        )
    broken = [row.qualified_name for row in rows if row.status == "broken"]
    if broken:
        raise Failure(f"broken: {', '.join(broken)}")


plugins.add_command(doctor)


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    In bash: source <(cachestream completion bash)
    """
    program = ctx.find_root().command
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(program, {}, "cachestream", "_CACHESTREAM_COMPLETE").source())
