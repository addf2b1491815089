"""A local cluster in a with-block, for tests and notebooks."""

import io
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from os import PathLike
from typing import IO, TYPE_CHECKING, Any, Self

from launch.client import Client
from launch.errors import LaunchError
from launch.itself import command, environment

if TYPE_CHECKING:
    from PIL.Image import Image

_LOG_TAIL = 4000  # characters
_STOP_S = 30.0


class ClusterError(LaunchError):
    """The cluster did not start, or ended; the message ends with what it wrote last."""


class Cluster:
    """`triptych up` on this machine, for as long as the with-block lasts.

        with Cluster(model="launch/demo/model", denoisers=2) as cluster:
            [picture] = cluster.generate("a red circle", seed=1)

    `flags` are all the flags of `triptych up`, with underscores (`threads=1`, `slot_bytes="1MiB"`);
    what is left out is chosen for the machine. `components`: from elsewhere, by their names, as
    `--component` has them: {"vae": FOLDER}. `api_key` is for a cluster with `api_keys`, where
    `generate`, `status` and `drain` need one. It listens on a free port of this machine. When the
    block ends, however it ends, every process of the cluster ends too; so they do when this process
    dies. Raises `ClusterError` if it does not come up.
    """

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        encoders: int | None = None,
        denoisers: int | None = None,
        decoders: int | None = None,
        components: Mapping[str, str | PathLike[str]] | None = None,
        api_key: str | None = None,
        **flags: object,
    ) -> None:
        counts = {"encoders": encoders, "denoisers": denoisers, "decoders": decoders}
        self._flags = {"model": model, "http": "127.0.0.1:0", **counts, **flags}
        self._components = dict(components or {})
        self._api_key = api_key
        self._log: IO[bytes] | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None
        self._ready: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the front door is: http://HOST:PORT."""
        return str(self._ready["http"])

    @property
    def control(self) -> str:
        """Where more roles may register: tcp://HOST:PORT."""
        return str(self._ready["control"])

    @property
    def pid(self) -> int:
        """Of the supervisor, `triptych up`."""
        return int(self._ready["pid"])

    @property
    def processes(self) -> list[dict[str, Any]]:
        """`[{"role", "name", "pid", "rank_pids"}]`, as they were when the cluster came up."""
        return list(self._ready["processes"])

    def status(self) -> dict[str, Any]:
        """What GET /v1/cluster says now."""
        return self._door.cluster()

    def generate(
        self,
        prompt: str,
        *,
        seed: int | None = None,
        steps: int | None = None,
        size: str | tuple[int, int] | None = None,
        **fields: Any,
    ) -> list["Image"]:
        """Pictures of a prompt. `size` is "WxH" or (width, height) in pixels; `fields` are further
        fields of POST /v1/images/generations (n, guidance_scale, negative_prompt, exact …).

        Raises `launch.client.RequestError` if the cluster refuses or fails the request.
        """
        from PIL import Image

        if isinstance(size, tuple):
            size = f"{size[0]}x{size[1]}"
        named = {"seed": seed, "num_inference_steps": steps, "size": size}
        given = {name: value for name, value in named.items() if value is not None}
        images = self._door.images({"prompt": prompt, **given, **fields})
        return [Image.open(io.BytesIO(content)) for content in images.files]

    def log(self) -> str:
        """What all processes wrote to standard error so far."""
        if self._log is None or self._log.closed:
            return ""
        file = self._log.fileno()  # pread: the processes write at the file's shared position
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def drain(self, name: str) -> None:
        """Lets the instance finish its work and leave; it is not started again."""
        self._door.drain(name)

    def wait(self) -> int:
        """Waits until the supervisor has ended, by a signal to `pid`; returns its exit code."""
        if self._supervisor is None:
            raise ClusterError("the cluster was not started")
        return self._supervisor.wait()

    def stop(self) -> None:
        """Drains and ends every process; what has not ended after 30 s is killed."""
        if self._client:
            self._client.close()
        if self._supervisor:
            _end(self._supervisor)
        if self._log:
            self._log.close()

    @property
    def _door(self) -> Client:
        if self._client is None:
            raise ClusterError("the cluster is not running: use it inside its with-block")
        return self._client

    def _start(self) -> None:
        flags = []
        for name, value in self._flags.items():
            if value is not None and value is not False:
                flag = f"--{name.replace('_', '-')}"
                flags += [flag] if value is True else [flag, str(value)]
        for name, source in self._components.items():
            flags += ["--component", f"{name}={os.fspath(source)}"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `stop`
        self._supervisor = subprocess.Popen(
            command("up", "--end-with-stdin", *flags),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            process_group=0,  # a Ctrl-C here ends the with-block, and that ends the cluster
        )
        assert self._supervisor.stdout
        line = self._supervisor.stdout.readline()  # `up` bounds the time by its --start-timeout
        if not line:
            self._supervisor.wait()
            raise ClusterError(f"the cluster did not start\n{self.log()[-_LOG_TAIL:]}")
        self._ready = json.loads(line)
        self._client = Client(self.url, api_key=self._api_key)


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    assert supervisor.stdin
    assert supervisor.stdout
    supervisor.terminate()
    try:
        supervisor.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        supervisor.stdin.close()  # ends everything at once, see --end-with-stdin
    supervisor.wait()
    for stream in (supervisor.stdin, supervisor.stdout):
        stream.close()
