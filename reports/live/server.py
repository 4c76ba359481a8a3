"""The server of a live report: one page, its version and three files of the run's folder, and nothing else."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
import stat
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from common.errors import BadInput, first_line

# What can be asked for: these words, as they are. No path is ever made of what a request says.
PAGE, VERSION = "/", "/version"
FILES = {
    "/report.pdf": "application/pdf",
    "/results.csv": "text/csv; charset=utf-8",
    "/verdicts.csv": "text/csv; charset=utf-8",
}
LOCAL = {"127.0.0.1", "localhost", "::1"}
SAFE = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server(ThreadingHTTPServer):
    """Serves `page`, which whoever made this replaces, under a `version` that changes with it."""

    def __init__(self, folder: Path, host: str, port: int) -> None:
        """Binds the address. Raises `BadInput` where that cannot be."""
        self.folder, self.host = folder, host
        self.page, self.version = b"", "0"
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise BadInput(_unbound(host, port, error)) from error

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def is_named(self, asked: str | None) -> bool:
        """Whether the `Host` of a request is ours: a name that somebody lets point here is not (DNS rebinding)."""
        if asked is None:
            return False
        name = _without_port(asked.strip().lower())
        if name in {*LOCAL, self.host.lower()}:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return ipaddress.ip_address(str(self.server_address[0]).partition("%")[0]).is_unspecified


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _unbound(host: str, port: int, error: OSError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return f"got --port {port}: want one from 1 to 65535; leave --port out"
    if error.errno == errno.EADDRINUSE:
        return f"got --port {port}, which is taken: want a free one; leave --port out"
    if error.errno == errno.EACCES:
        return f"got --port {port}, which this user may not have: want one from 1024 on; leave --port out"
    return f"got --host {host} ({first_line(error)}): want an address of this machine; leave --host out"


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    timeout = 10  # seconds for a request to arrive
    server_version, sys_version = "Gramlab", ""

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):  # who asked has left
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said of requests."""

    def _answer(self) -> None:
        path, server = self.path.partition("?")[0], self.server
        assert isinstance(server, Server)
        if not server.is_named(self.headers.get("Host")):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, "text/plain; charset=utf-8", b"This report has another name.\n")
        elif path == PAGE:
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", server.page)
        elif path == VERSION:
            self._send(HTTPStatus.OK, "application/json", json.dumps({"version": server.version}).encode())
        elif path in FILES and (content := own_file(server.folder / path[1:])) is not None:
            self._send(HTTPStatus.OK, FILES[path], content)
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"There is no such page.\n")

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **SAFE}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def own_file(path: Path) -> bytes | None:
    """The content of a regular file; None where there is none, or a link, which may lead anywhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123
        return file.read()
