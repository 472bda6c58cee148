"""`plugins doctor`: one plug-in from end to end, for its author or its user."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from cachestream.cli._exits import EPILOG, Failure
from cachestream.cli._output import columns, json_option, print_json
from cachestream.cli._session import run
from cachestream.cli._values import DurationType
from cachestream.errors import CacheStreamError
from cachestream.registry import KINDS, Kind, PluginInfo, Registry

if TYPE_CHECKING:
    from cachestream.testing.doctor import Check, Order

__all__ = ["doctor"]

_WIDTH: Final = 12


@click.command(epilog=EPILOG)
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Its kind, if several have the name.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KIND.NAME.OPTION=VALUE",
    help="Option of the plug-in, as store.s3.bucket=films; may be repeated.",
)
@click.option("--config", metavar="FILE", help="The only configuration file to read; or 'none'.")
@click.option("--url", help="Something that a transport can read; it is only read.")
@click.option(
    "--timeout",
    type=DurationType(),
    default=30.0,
    metavar="SECONDS",
    help="Time for each check, and for each promise.  [30s]",
)
@json_option
def doctor(
    name: str,
    kind: Kind | None,
    options: tuple[str, ...],
    config: str | None,
    url: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Check a plug-in from end to end: found, loads, made from its options, keeps its promises.

    NAME is as in `cachestream plugins`, or 'distribution:name'. Its options are those that
    flags, variables and configuration files say. The exit code is 0 if all is well, else 1.

    The last check runs the quick part of the contract in `cachestream.testing` against it, which
    needs: pip install 'cachestream[testing]'. A promise that is broken is named in one line.
    The contract in the plug-in's own tests goes further.

    A transport of http is run against an origin on this machine. One of other schemes needs
    something to read, --url s3://bucket/key, unless it serves file or memory URLs.

    A store never works at the place that is configured. It gets a directory or a random
    prefix of its own, which is removed afterwards: for that, what says where its entries lie
    is the setting cache_dir, or an option prefix, url, path, root, directory or folder; a store
    that is placed in another way has a class method scratch_options(values, token) that
    returns its options with a place of its own.
    """
    if timeout <= 0:
        raise click.BadParameter("must be more than 0", param_hint="--timeout")
    found = _found(name, kind)
    if isinstance(found, Failure):
        _show_failure(found, as_json)
        raise found
    with tempfile.TemporaryDirectory(prefix="cachestream-doctor-") as directory:
        order = _order(found, name, directory, options=options, config=config, url=url)
        checks = run(_examine(order, found, timeout, as_json))
    failed = [check.name for check in checks if check.status == "failed"]
    if as_json:
        _print_all(found, checks)
    elif not failed:
        click.echo(f"\n{found.kind} {name}: all is well")
    if failed:
        raise Failure(f"{found.kind} {name}: failed: {', '.join(failed)}")


def _found(name: str, kind: Kind | None) -> PluginInfo | Failure:
    # Here and not above: `--help` has no use for it.
    from cachestream.testing.doctor import find_plugin

    try:
        return find_plugin(Registry(), name, kind)
    except CacheStreamError as error:
        return Failure(str(error))


def _show_failure(failure: Failure, as_json: bool) -> None:
    if as_json:
        check = {"name": "found", "status": "failed", "detail": failure.message}
        print_json({"ok": False, "plugin": None, "checks": [check]})
    else:
        click.echo(f"{'found':<{_WIDTH}} failed  {failure.message}")


def _order(info: PluginInfo, name: str, directory: str, **given: Any) -> Order:
    from cachestream.testing.doctor import Order

    return Order(
        kind=info.kind,
        name=name,
        target=info.target,
        directory=directory,
        token=f"cachestream-doctor-{secrets.token_hex(8)}",
        **given,
    )


async def _examine(order: Order, info: PluginInfo, timeout: float, quiet: bool) -> list[Check]:
    """Return all checks; unless ``quiet``, print each as soon as it is done."""
    from cachestream.testing.doctor import Check, diagnose

    first = Check(name="found", detail=f"in {info.origin}")
    checks = [first]
    if not quiet:
        _print(first)
    async for check in diagnose(order, timeout=timeout):
        checks.append(check)
        if not quiet:
            _print(check)
    return checks


def _print(check: Check) -> None:
    """Print one line, and the options below theirs."""
    time = f" ({check.seconds:.1f} s)" if check.seconds >= 0.1 else ""
    status = "-" if check.status == "not reached" else check.status
    detail = check.detail or ("not reached" if status == "-" else "")
    click.echo(f"{check.name:<{_WIDTH}} {status:<6}  {detail}{time}".rstrip())
    options = check.facts.get("options")
    if options:
        click.echo(_listed(options))


def _listed(options: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            f"    {row['name']}",
            row["unit"] or row["type"],
            "required" if row["required"] else _shown(row["default"]),
            row["help"] + (" (secret)" if row["secret"] else ""),
        )
        for row in options
    ]
    return columns(("    option", "type", "default", "meaning"), rows)


def _shown(value: Any) -> str:
    return "none" if value is None or value in ("", [], {}) else str(value)


def _print_all(info: PluginInfo, checks: Sequence[Check]) -> None:
    print_json(
        {
            "ok": all(check.status == "ok" for check in checks),
            "plugin": attrs.asdict(info),
            "checks": [attrs.asdict(check) for check in checks],
        }
    )
