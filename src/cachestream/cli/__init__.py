"""The command line: ``cachestream COMMAND``, or ``python -m cachestream``.

Every command parses its arguments without importing the engine or an HTTP library; what
opens a cache imports them when it runs.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import click

from cachestream.cli._configuring import config
from cachestream.cli._exits import EPILOG
from cachestream.cli._fetching import cat, get, prefetch
from cachestream.cli._keeping import info, ls, prune, rm, stats, verify
from cachestream.cli._logs import LOG_FORMATS, LogFormat, configure_logging
from cachestream.cli._serving import play, serve
from cachestream.cli._session import Program
from cachestream.cli._showing import completion, plugins, url
from cachestream.cli.demo import demo

__all__ = ["main", "program"]


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    try:
        number = version("cachestream")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"cachestream {number}")
    ctx.exit()


@click.group(cls=Program, epilog=EPILOG, context_settings={"help_option_names": ["--help", "-h"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
@click.option("--verbose", "-v", count=True, help="Log more to stderr; twice for all.")
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    default="text",
    envvar="CACHESTREAM_LOG_FORMAT",
    help="How the log is written: text, or one JSON object a line.  [text]",
)
def program(verbose: int, log_format: LogFormat) -> None:
    """Download, cache and stream remote content at the same time, from a local URL."""
    configure_logging(verbose, log_format)


for command in (
    serve,
    url,
    get,
    cat,
    play,
    prefetch,
    ls,
    info,
    rm,
    prune,
    verify,
    stats,
    plugins,
    config,
    demo,
    completion,
):
    program.add_command(command)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    program(prog_name="cachestream")
