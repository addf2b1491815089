"""What an orchestrator is told when it starts: the flags of its `triptych serve`."""

import msgspec


class OrchestratorOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every field is a flag of the command line and a key of the YAML file.

    `bind`: where instances register, tcp://HOST:PORT; port 0 takes any free one.
    `http`: where the front door listens, HOST:PORT; port 0 likewise.
    `keys`: the folder of the cluster's key pair; None: see `transfer.keys.cluster_keys`.
    `state_dir`: a folder for what must outlive the process; None keeps nothing.
    `journal`: a database URL for the journal of jobs; None: a file in `state_dir`.
    `job_ttl_s`, `job_bytes`: for how long finished jobs are kept, in seconds, and how large the
    stored files of all may be together, in bytes; then the oldest are forgotten.
    `policy`: how an instance is chosen among those with room: least_backlog | least_loaded |
    round_robin.
    `schedule`: who goes first among those who wait for a role: sjf | fifo, as is round_robin.
    `encoders`, `denoisers`, `decoders`: endpoints whose places in their roles are fixed
    beforehand, in this order; all others follow in the order of their first registration.
    `media_store`: a folder or fsspec URL that the decoders and the front door both reach.
    `request_timeout_s`: the deadline of a request that names none, in seconds.
    `max_queue`: how many requests may wait for an instance before the door says 429, of
    each model.
    `max_attempts`: how often a request is tried before its client gets the error.
    `stall_timeout_s`: an instance that computes for so long without a sign of progress loses the
    request, which is tried elsewhere, in seconds.
    `max_models`: how many models may be served at a time; roles of others are refused.
    `default_model`: what a request means that names none; None: the only one there is.
    `max_pixels`: width x height that one picture may have at most.
    `api_keys`: a file of the hashes of the keys that may come in; None lets everybody in.
    `supervisor_key`: the hash of one more key, for whoever started this process.
    `rate_limit`: requests for work that each key, or address, may send: N/second|minute|hour|day.
    """

    bind: str = "tcp://127.0.0.1:0"
    http: str = "127.0.0.1:0"
    keys: str | None = None
    state_dir: str | None = None
    journal: str | None = None
    job_ttl_s: float = 86_400.0
    job_bytes: int = 10 << 30
    policy: str = "least_backlog"
    schedule: str = "sjf"
    encoders: list[str] = []
    denoisers: list[str] = []
    decoders: list[str] = []
    media_store: str | None = None
    request_timeout_s: float = 600.0
    max_queue: int = 1000
    max_attempts: int = 3
    stall_timeout_s: float = 300.0
    max_models: int = 1
    default_model: str | None = None
    max_pixels: int = 1 << 23
    api_keys: str | None = None
    supervisor_key: str | None = None
    rate_limit: str | None = None
