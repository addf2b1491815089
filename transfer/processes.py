"""When a process of this host began, in a measure that no clock can be set against."""

from pathlib import Path

_FIELDS_BEFORE = 19  # of the twenty-second, counted from the third, which follows the name


def start_ticks(pid: int) -> int:
    """Clock ticks between the host's boot and the process's start (proc_pid_stat(5), starttime).

    With its pid and the host's boot id it names one process for ever. Raises OSError if there is
    no such process, or no /proc, and ValueError for what is no pid.
    """
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    after_name = stat.rpartition(b")")[2]  # a name may hold spaces and parentheses
    return int(after_name.split()[_FIELDS_BEFORE])
