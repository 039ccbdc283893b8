"""A file server on loopback that cuts, holds, redirects and refuses as it is told."""

import hashlib
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest


class Request(NamedTuple):
    method: str
    path: str
    range: str | None
    authorization: str | None


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed or had enough
            super().handle_error(request, client_address)


class FileServer:
    """Serves `files`, path -> bytes; the other tables change how.

    cuts: path -> how many bytes of each answer in turn are sent before the connection is closed.
    holds: path -> bytes after which an answer hangs until `release` is set.
    states: path -> HTTP states of the answers in turn, before it is served.
    redirects: path -> address.
    cap: most bytes of an answer to a Range; a server may answer a part of what was asked for.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, list[int]] = {}
        self.holds: dict[str, int] = {}
        self.states: dict[str, list[int]] = {}
        self.redirects: dict[str, str] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.ranges = True
        self.cap: int | None = None
        self.validators = True
        self.requests: list[Request] = []
        self.sent: Counter[str] = Counter()
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                outer.answer(self)

            def do_GET(self) -> None:
                outer.answer(self)

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def wait_for(self, path: str, sent: int) -> None:
        """Wait until so many bytes of a file have left."""
        for _ in range(3000):
            if self.sent[path] >= sent:
                return
            time.sleep(0.01)
        raise AssertionError(f"{self.sent[path]} bytes of {path} were asked for")

    def etag(self, path: str) -> str:
        return f'"{hashlib.md5(self.files[path]).hexdigest()}"'

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        asked = handler.headers.get("Range")
        self.requests.append(Request(handler.command, path, asked, handler.headers.get("Authorization")))
        if self.states.get(path):
            return self._bare(handler, self.states[path].pop(0))
        if path in self.redirects:
            return self._bare(handler, 302, {"Location": self.redirects[path]})
        if path not in self.files:
            return self._bare(handler, 404)
        data, first, state = self.files[path], 0, 200
        fresh = handler.headers.get("If-Range") in (None, self.etag(path))
        if asked and self.ranges and fresh:
            first, state = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]), 206
            if first >= len(data):
                return self._bare(handler, 416, {"Content-Range": f"bytes */{len(data)}"})
        end = len(data) if state == 200 or self.cap is None else min(len(data), first + self.cap)
        handler.send_response(state)
        handler.send_header("Content-Length", str(end - first))
        if self.validators:
            handler.send_header("ETag", self.etag(path))
        if state == 206:
            handler.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
        for name, value in self.headers.get(path, {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            self._send(handler, path, data[first:end])
        return None

    def _send(self, handler: BaseHTTPRequestHandler, path: str, data: bytes) -> None:
        cut = self.cuts[path].pop(0) if self.cuts.get(path) else None
        stop = self.holds.pop(path, None) if cut is None else cut
        try:
            handler.wfile.write(data[:stop])
            handler.wfile.flush()
            self.sent[path] += len(data[:stop])
            if cut is not None:
                handler.close_connection = True
            elif stop is not None:
                self.release.wait()
                handler.wfile.write(data[stop:])
        except OSError:
            handler.close_connection = True  # the client was killed

    @staticmethod
    def _bare(handler: BaseHTTPRequestHandler, state: int, headers: dict[str, str] | None = None) -> None:
        handler.send_response(state)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    server = FileServer()
    yield server
    server.close()
