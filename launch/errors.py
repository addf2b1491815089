"""What ends a command with one clear line instead of a traceback."""

import errno
import os


class LaunchError(Exception):
    """Something the user can mend. The message says what happened and what to do; exit code 1."""


def explain(error: Exception) -> str:
    """One line for an exception that nobody foresaw."""
    code = getattr(error, "errno", None)  # OSError, and zmq's errors, which are none
    if code == errno.EADDRINUSE:
        return f"the address is already in use: {error}"
    if isinstance(error, OSError) and error.filename and error.errno is not None:
        return f"{error.filename}: {os.strerror(error.errno)}"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
