"""Fetches one large result: python -m benchmarks.scripted.downloader URL KIND

KIND is how: "b64" (in the reply), "url" (the link in the reply), "job" (the content of a job).
Waits for a line on its standard input, then says {"made_s", "seconds", "nbytes"}: until the reply
had begun, the link or the finished job was there; until all bytes were; and how many came.
"""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit

from benchmarks.scripted.large_decoder import LARGE_SEED

ASK = {"prompt": "a very large picture", "seed": LARGE_SEED}
IMAGES = "/v1/images/generations"
PIECE_BYTES = 1 << 20
PATIENCE_S = 300


class Fetch:
    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
        self._began = time.perf_counter()
        self._made_s = 0.0

    def b64(self) -> int:
        return self._drain(self._ask("POST", IMAGES, ASK))

    def url(self) -> int:
        reply = json.load(self._ask("POST", IMAGES, ASK | {"response_format": "url"}))
        return self._drain(self._ask("GET", urlsplit(reply["data"][0]["url"]).path))

    def job(self) -> int:
        job = json.load(self._ask("POST", "/v1/jobs", ASK))
        # the stream of its events ends when the job is over
        self._ask("GET", f"/v1/jobs/{job['id']}/events").read()
        return self._drain(self._ask("GET", f"/v1/jobs/{job['id']}/content"))

    def told(self, nbytes: int) -> dict[str, float]:
        return {"made_s": self._made_s, "seconds": self._seconds, "nbytes": nbytes}

    def _ask(self, method: str, path: str, body: object = None) -> http.client.HTTPResponse:
        self._connection.request(method, path, body and json.dumps(body))
        reply = self._connection.getresponse()
        if reply.status not in (200, 202):
            sys.exit(f"{method} {path}: {reply.status} {reply.read(1000)!r}")
        return reply

    def _drain(self, reply: http.client.HTTPResponse) -> int:
        self._made_s = self._seconds
        announced, came = int(reply.headers["content-length"]), 0
        piece = bytearray(PIECE_BYTES)
        while nbytes := reply.readinto(piece):
            came += nbytes
        if came != announced:
            sys.exit(f"{came} of {announced} bytes came")
        return came

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._began


if __name__ == "__main__":
    url, kind = sys.argv[1:]
    print("begin", flush=True)
    sys.stdin.readline()
    fetch = Fetch(url)
    print(json.dumps(fetch.told(getattr(fetch, kind)())), flush=True)
