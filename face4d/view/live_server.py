"""The server of the live viewer, by viser: where it listens, light and camera, and a page for every visitor."""

from __future__ import annotations

import errno
import io
import math
import socket
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from face4d.errors import InputError
from face4d.view.live import LiveMotions
from face4d.view.live_page import FIELD_OF_VIEW, SHOWN, Offer, Page, camera_distance, set_theme

__all__ = ["free_port", "serve"]

_PORTS = 50  # that are tried


def serve(live: LiveMotions, offer: Offer, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C.

    Args:
        host, port: where; a port that is taken is passed over for the next that is free.
        ready: called with the address when the page is there and its first motion made.

    Raises:
        InputError: viser is not installed; no such address; the first motion cannot be made.
    """
    try:
        import viser
    except ImportError:
        raise InputError("--view", "the package viser (pip install viser)", "it is not installed") from None

    class Server(viser.ViserServer):
        """One that is reached at its own address only: viser's clients may ask for a tunnel that is public."""

        def request_share_url(self, verbose: bool = True) -> None:
            return None

    port = free_port(host, port)
    warnings.filterwarnings("ignore", "Queued a .* on a closed connection", UserWarning)  # of a visitor who has left
    live.motion(offer.first).glb()  # kept: made before anybody waits for it
    with redirect_stdout(io.StringIO()):  # it says there where it is
        server = Server(host=host, port=port, label="face4d", verbose=False)
    set_theme(server.gui)
    server.scene.set_up_direction("+y")
    server.initial_camera.position, server.initial_camera.look_at = (0.0, 0.0, camera_distance(SHOWN)), (0.0, 0.0, 0.0)
    server.initial_camera.fov = math.radians(FIELD_OF_VIEW)
    server.scene.configure_default_lights(enabled=False)
    server.scene.configure_environment_map(None)
    server.scene.add_light_ambient("/lights/ambient", intensity=0.7)
    server.scene.add_light_directional("/lights/key", intensity=2.0, position=(-1.5, 2.5, 4.0))
    server.scene.add_light_directional("/lights/fill", intensity=0.6, position=(3.0, 0.5, 2.0))
    pages: dict[int, Page] = {}

    @server.on_client_disconnect
    def go(client: Any) -> None:
        page = pages.pop(client.client_id, None)
        if page is not None:
            page.leave()

    @server.on_client_connect
    def come(client: Any) -> None:
        pages[client.client_id] = Page(client, live, offer)
        if client.client_id not in server.get_clients():  # gone while the page was being made
            go(client)

    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    ready(f"http://{shown}:{server.get_port()}")
    try:
        while True:
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        with redirect_stdout(io.StringIO()):
            server.stop()


def free_port(host: str, port: int) -> int:
    """The first free port from that one on; viser itself waits for ever for an address that cannot be had.

    Raises:
        InputError: the machine has no such address, or there is none.
    """
    for candidate in range(port, min(port + _PORTS, 65536)):
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host, candidate), family=family).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                expected = "an address and a port of this machine that programs may have"
                raise InputError(f"--host {host} --port {candidate}", expected, error.strerror or str(error)) from None
        else:
            return candidate
    raise InputError(f"--port {port}", f"a free one, or one of the {_PORTS - 1} after it", "none")
