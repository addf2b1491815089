import os
import subprocess
import sys

import psutil
import pytest

from transfer.processes import start_ticks


def test_it_is_what_the_kernel_counts_from_boot() -> None:
    hertz = os.sysconf("SC_CLK_TCK")
    began = psutil.Process().create_time() - psutil.boot_time()
    assert abs(start_ticks(os.getpid()) / hertz - began) < 1.5  # btime is in whole seconds


def test_a_process_with_a_nasty_name_has_one_too() -> None:
    script = "open('/proc/self/comm', 'w').write('a) S 1 (b'); print(flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert start_ticks(process.pid) >= start_ticks(os.getpid())
        process.communicate(b"\n")


def test_what_is_no_process_has_none() -> None:
    with pytest.raises(OSError, match="No such"):
        start_ticks(2**40)
