"""The service's command: serve."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; TRIAGE_HOST or 127.0.0.1 otherwise.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one; TRIAGE_PORT or 8000 otherwise.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="A taxonomy file of your own.")] = None,
    release: Annotated[Path | None, typer.Option(help="A release bundle; the embedded one otherwise.")] = None,
) -> None:
    """Start the HTTP service."""
    import asyncio
    import logging

    import uvicorn

    from service.app import create_app
    from service.engine_process import EngineProcess
    from service.settings import Settings
    from triage.logs import log_event, set_up_logs
    from triage.taxonomy import load_taxonomy

    settings = Settings.load(host=host, port=port, taxonomy=taxonomy, release=release)
    set_up_logs(settings.log_format)
    listener = _listen(settings.host, settings.port)
    loaded = load_taxonomy(settings.taxonomy)
    engine = EngineProcess(loaded, settings.release, threads=settings.engine_threads, restart_s=settings.engine_restart_s)

    async def run() -> None:
        await engine.start()
        address, chosen = listener.getsockname()[:2]
        log_event(
            logging.getLogger("service"),
            "listening",
            url=f"http://{'[' + address + ']' if ':' in address else address}:{chosen}",
            keys="none, which is why only loopback is served",
        )
        app = create_app(settings, engine=engine, taxonomy=loaded)
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=30)
        await uvicorn.Server(config).serve(sockets=[listener])

    asyncio.run(run())


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is loaded.

    Raises:
        SettingsError: the port is in use or may not be taken.
    """
    from triage.errors import SettingsError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}", "choose another with --port, or 0 for a free one") from None
    return listener
