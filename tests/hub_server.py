"""A server on this machine that speaks the protocol of the Hugging Face hub, as far as its client asks for models."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = 2000
"""Bytes from which on a file is kept by its SHA-256 (Git LFS), as weights are."""


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def git_digest(data: bytes) -> str:
    """The name of a blob in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """Repositories of files in memory.

    Attributes:
        repositories: name -> commit -> {file: bytes}; the last commit is the branch main.
        asked: how often each path was asked for with GET.
        cut: a file of which only this many bytes are sent, once.
        spoilt: a file that is sent with other bytes than promised.
        gated: a repository that asks for consent.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.asked: Counter = Counter()
        self.ranges: list[str] = []
        self.cut: tuple[str, int] | None = None
        self.spoilt: str | None = None
        self.gated: str | None = None
        self.url = ""

    def add(self, name: str, folder: Path, **others: bytes) -> str:
        """Take the files of a folder, and others, as the newest commit of a repository; returns the commit."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths} | others
        commit = hashlib.sha1(json.dumps([(file, sha256(data)) for file, data in files.items()]).encode()).hexdigest()
        self.repositories.setdefault(name, {})[commit] = files
        return commit


def _described(name: str, data: bytes) -> dict:
    entry = {"rfilename": name, "size": len(data), "blobId": git_digest(data)}
    if len(data) >= LARGE:
        entry["lfs"] = {"size": len(data), "sha256": sha256(data), "pointerSize": 134}
    return entry


def _leaf(name: str, data: bytes) -> dict:
    entry = {"type": "file", "path": name, "size": len(data), "oid": git_digest(data)}
    if len(data) >= LARGE:
        entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    return entry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        """Nothing."""

    def _end(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        """Size, commit and digest of a file."""
        self.do_GET()

    def do_GET(self) -> None:
        """A repository's files, or a file."""
        hub, parts = self.hub, unquote(urlsplit(self.path).path).strip("/").split("/")
        if self.command == "GET":
            hub.asked["/".join(parts)] += 1
        inside = parts[2:] if parts[:2] == ["api", "models"] else parts
        name = "/".join(inside[:2])
        if name not in hub.repositories:
            return self._end(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        if name == hub.gated:
            return self._end(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        commits = hub.repositories[name]
        revision = inside[3] if len(inside) > 3 else "main"
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            return self._end(404, X_Error_Code="RevisionNotFound", X_Error_Message="No such revision")
        if inside is not parts:
            if inside[2:3] == ["tree"]:
                tree = [_leaf(file, data) for file, data in commits[commit].items()]
                return self._end(200, json.dumps(tree).encode(), Content_Type="application/json")
            siblings = [_described(file, data) for file, data in commits[commit].items()]
            info = {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": False, "tags": []}
            return self._end(200, json.dumps(info).encode(), Content_Type="application/json")
        return self._file(name, "/".join(inside[4:]), commit)

    def _file(self, name: str, file: str, commit: str) -> None:
        hub = self.hub
        if file not in hub.repositories[name][commit]:
            return self._end(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found", X_Repo_Commit=commit)
        data = hub.repositories[name][commit][file]
        tag = sha256(data) if len(data) >= LARGE else git_digest(data)
        headers = {"X_Repo_Commit": commit, "ETag": f'"{tag}"', "Accept_Ranges": "bytes"}
        if self.command == "HEAD":
            self.send_response(200)
            for key, value in {**headers, "Content_Length": str(len(data))}.items():
                self.send_header(key.replace("_", "-"), value)
            return self.end_headers()
        if hub.spoilt == file:
            data = bytes(len(data))
        first = 0
        if wanted := self.headers.get("Range"):
            hub.ranges.append(wanted)
            first = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content_Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        if hub.cut and hub.cut[0] == file:
            count, hub.cut = hub.cut[1], None
            self.send_response(200)
            for key, value in {**headers, "Content_Length": str(len(data))}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data[:count])
            self.wfile.flush()
            self.close_connection = True
            return None
        return self._end(206 if wanted else 200, data[first:], **headers)


@contextmanager
def running() -> Iterator[Hub]:
    """A hub without repositories, at ``hub.url``."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
