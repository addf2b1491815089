"""A model hub on this host: the few questions that huggingface_hub asks, answered from folders.

    with FakeHub() as hub, hub.asked_by(monkeypatch, tmp_path / "cache"):
        commit = hub.push("someone/model", folder)
        ...
        hub.given            # the files that were fetched, in order: ["model_index.json", ...]

Everything is a file here, large ones too: what a hub keeps elsewhere comes by a redirect, which is
its own affair.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

Refusal = tuple[int, str]  # status and error code, as the hub sends them
GATED: Refusal = (403, "GatedRepo")
NO_REPOSITORY: Refusal = (401, "RepoNotFound")
NO_REVISION: Refusal = (404, "RevisionNotFound")
NO_FILE: Refusal = (404, "EntryNotFound")


class FakeHub:
    """`given`: paths of files that were asked for; `peeked`: bytes that were sent of those of which
    only a part was; `questions`: how many requests there were at all. `gated`: repositories of
    which it gives no files."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.peeked = 0
        self.questions = 0
        self.gated: set[str] = set()
        self._commits: dict[tuple[str, str], Path] = {}
        self._refs: dict[tuple[str, str], str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def push(self, id: str, folder: Path, ref: str = "main") -> str:
        """Makes a folder the next commit of a branch; its files stay where they are."""
        commit = hashlib.sha1(f"{id} {folder} {len(self._commits)}".encode()).hexdigest()
        self._commits[id, commit] = folder
        self._refs[id, ref] = commit
        return commit

    @contextlib.contextmanager
    def asked_by(self, patch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
        """This process asks this hub, with an empty cache there, and no token."""
        with patch.context() as here:
            here.setenv("NO_PROXY", "127.0.0.1")
            here.setattr(constants, "ENDPOINT", self.url)
            template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
            here.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            here.setattr(constants, "HF_HUB_CACHE", str(cache))
            here.setattr(constants, "HF_HUB_OFFLINE", False)
            here.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
            yield

    # ------------------------------------------------------------ what it answers

    def commit(self, id: str, revision: str) -> str | Refusal:
        if not any(known == id for known, _ in self._commits):
            return NO_REPOSITORY
        if (id, revision) in self._commits:
            return revision
        return self._refs.get((id, revision), NO_REVISION)

    def folder(self, id: str, commit: str) -> Path:
        return self._commits[id, commit]

    def files(self, id: str, commit: str) -> list[dict[str, Any]]:
        folder = self.folder(id, commit)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return [
            {
                "type": "file",
                "path": str(path.relative_to(folder)),
                "size": path.stat().st_size,
                "oid": _etag(path),
            }
            for path in paths
        ]


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.questions += 1
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self._about("/".join(parts[2:4]), parts[4:])
            elif parts[2:3] != ["resolve"]:
                self._refuse(NO_FILE)
            else:
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

        def _about(self, id: str, rest: list[str]) -> None:
            kind, revision = (rest[0], "/".join(rest[1:])) if rest else ("revision", "main")
            commit = hub.commit(id, revision)
            if isinstance(commit, tuple):
                self._refuse(commit)
            elif kind == "tree":
                self._send(json.dumps(hub.files(id, commit)).encode(), {})
            else:
                about = {"id": id, "sha": commit, "siblings": [], "private": False, "tags": []}
                self._send(json.dumps({**about, "downloads": 0, "likes": 0}).encode(), {})

        def _file(self, id: str, revision: str, name: str) -> None:
            commit = hub.commit(id, revision)
            if isinstance(commit, tuple):
                return self._refuse(commit)
            if id in hub.gated:
                return self._refuse(GATED)
            path = hub.folder(id, commit) / name
            if not path.is_file():
                return self._refuse(NO_FILE)
            headers = {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": commit}
            content, status = path.read_bytes(), 200
            if wanted := self.headers.get("Range"):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                content, status = content[int(first) : int(last or len(content)) + 1], 206
                hub.peeked += len(content)
            elif self.command == "GET":
                hub.given.append(name)
            self._send(content, headers, status)

        def _refuse(self, refusal: Refusal) -> None:
            status, code = refusal
            self._send(b"{}", {"X-Error-Code": code}, status)

        def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    return Handler
