"""`serve`: run the gateway. Finds home and configuration; the daemon does the rest."""

from __future__ import annotations

from dataclasses import replace

import click

from gateway.cli.command import Verb, common
from gateway.cli.home import make_home, the_config, the_home


@click.command("serve", cls=Verb)
@click.option("--host", help="Address to listen on; wins over server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; wins over server.port.")
@click.pass_context
def command(context: click.Context, host: str | None, port: int | None) -> None:
    """Run the gateway until it is told to stop.

    The home is --home, MLX_GATEWAY_HOME, $STATE_DIRECTORY or the platform's data folder; the
    configuration --config, MLX_GATEWAY_CONFIG or gateway.toml in the home. With --json the log is
    one JSON object a line. SIGTERM lets running answers finish, SIGHUP reloads.
    """
    home = the_home()
    config, path = the_config(home)
    if host is not None:
        if not host.strip():
            raise click.UsageError("--host must be an address, such as 127.0.0.1")
        config = replace(config, server=replace(config.server, host=host))
    if port is not None:
        config = replace(config, server=replace(config.server, port=port))
    if common().json:
        config = replace(config, telemetry=replace(config.telemetry, log_format="json"))
    make_home(home)
    from gateway import daemon

    context.exit(daemon.serve(config, home, config_path=path))
