"""The key pair of a cluster: who holds its secret key belongs to it.

One file, `cluster.key_secret`, in ZeroMQ's certificate format (`zmq.auth.load_certificate` reads
it), in a folder of its own. The servers of a cluster answer with this pair, and their clients show
the same one, so that each side knows the other (CURVE, https://rfc.zeromq.org/spec/26).
"""

import os
import secrets
import stat
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
import zmq
from zmq.auth import load_certificate

from transfer.errors import KeysError

FILE = "cluster.key_secret"
VARIABLE = "TRIPTYCH_KEYS"
OTHERS = 0o077  # what group and others may do

_TEXT = """\
# The key of one Triptych cluster. Whoever has this file belongs to the cluster: keep it secret.
metadata
curve
    public-key = "{public}"
    secret-key = "{secret}"
"""


class KeyPair(msgspec.Struct, frozen=True):
    """Both keys as ZeroMQ takes them (Z85, 40 characters), and the folder that they came from."""

    public: bytes
    secret: bytes
    folder: Path

    def __repr__(self) -> str:
        return f"KeyPair({self.folder})"  # the secret is in no log

    def of_server(self, socket: "zmq.Socket[Any]") -> None:
        """The socket answers with this pair. Whom it lets in is for a `Guard` to say."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)

    def of_client(self, socket: "zmq.Socket[Any]") -> None:
        """The socket shows this pair, and talks to nobody who does not have it."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)


def cluster_keys(folder: str | os.PathLike[str] | None = None) -> KeyPair:
    """The pair of the folder; None: of the folder that TRIPTYCH_KEYS names, which both have to
    hold one; without that, of the user's state folder, where it is made if there is none yet.

    Raises `KeysError`.
    """
    given = folder or os.environ.get(VARIABLE)
    if given:
        return load(Path(given))
    own = default_folder()
    if not _exists(own / FILE):
        _make_unless_there(own)
    return load(own)


def default_folder() -> Path:
    """Where processes of one user on one host find each other's key: below XDG_STATE_HOME."""
    return platformdirs.user_state_path("triptych") / "keys"


def load(folder: Path) -> KeyPair:
    """The pair that lies in the folder. Raises `KeysError` if there is none, if others could have
    read it, or if it is broken."""
    folder = folder.absolute()
    path = folder / FILE
    if not _exists(path):
        raise KeysError(
            f"there is no {FILE} in {folder}: copy the folder of the cluster's keys there, "
            f"or make a new pair with `triptych keygen {folder}`"
        )
    _check_folder(folder)
    _check_file(path)
    return _read(path)


def make(folder: Path) -> KeyPair:
    """Makes a pair in the folder, which is made too. Raises `KeysError` if it has one already.

    The file appears complete and readable for us alone, or not at all; of several processes that
    make one at the same time, one succeeds.
    """
    folder = folder.absolute()
    if not _make_unless_there(folder):
        raise KeysError(
            f"{folder} has a key already; copy that one, or remove {folder / FILE} first"
        )
    return load(folder)


def _make_unless_there(folder: Path) -> bool:
    """Whether the pair is ours; False: somebody else was first."""
    path, draft = folder / FILE, folder / f".{FILE}.{secrets.token_hex(8)}"
    public, secret = _new_pair()
    text = _TEXT.format(public=public.decode(), secret=secret.decode())
    try:
        _make_folder(folder)
        try:
            _write(draft, text)
            os.link(draft, path)  # unlike a rename it fails if the name is taken
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise KeysError(
            f"cannot make keys in {folder}: {error.strerror}; "
            f"name another folder with --keys or {VARIABLE}"
        ) from error
    return True


def _new_pair() -> tuple[bytes, bytes]:
    try:
        return zmq.curve_keypair()
    except zmq.ZMQError as error:
        raise KeysError(
            "this pyzmq was built without CURVE (libsodium); install its wheel: "
            "pip install --force-reinstall --only-binary :all: pyzmq"
        ) from error


def _make_folder(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not any(folder.iterdir()):  # somebody's `mkdir keys`; one with files is left as it is
            folder.chmod(0o700)
    _check_folder(folder)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _read(path: Path) -> KeyPair:
    try:
        public, secret = load_certificate(path)
        if secret is None or zmq.curve_public(secret) != public:
            raise ValueError("its two keys do not belong together")
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, zmq.ZMQError) as error:
        raise KeysError(
            f"{path} holds no key pair ({error}); copy it again, or remove it and make a new one "
            "with `triptych keygen`"
        ) from error
    return KeyPair(public, secret, path.parent)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error.strerror}") from error


def _check_file(path: Path) -> None:
    """Ours, and for nobody else. What belongs to root (a mounted secret) is root's to protect."""
    state = path.stat()
    if state.st_uid not in (os.geteuid(), 0):
        raise KeysError(f"{path} belongs to another user (uid {state.st_uid}), who knows the key")
    if state.st_uid == os.geteuid() and state.st_mode & OTHERS:
        raise KeysError(_open_to_others(path, state, "600"))


def _check_folder(folder: Path) -> None:
    """Ours, and for nobody else: who may write in it can put another key there. A mount that
    nobody can write to (a secret of Kubernetes) comes with modes that cannot be changed."""
    state = folder.stat()
    if state.st_uid not in (os.geteuid(), 0):
        raise KeysError(f"{folder} belongs to another user (uid {state.st_uid})")
    frozen = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    if state.st_uid == os.geteuid() and state.st_mode & OTHERS and not frozen:
        raise KeysError(_open_to_others(folder, state, "700"))


def _open_to_others(path: Path, state: os.stat_result, mode: str) -> str:
    now = f"{stat.S_IMODE(state.st_mode):04o}"
    return f"{path} is open to other users (mode {now}): chmod {mode} {path}"
