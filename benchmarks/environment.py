"""One line on what a benchmark ran on."""

import os
import platform
from importlib.metadata import version

PACKAGES = ("torch", "diffusers", "transformers")


def processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())


def describe() -> str:
    """Hardware and versions: 'Xeon …, 2 cores; Python 3.11.7, torch 2.13.0, …'."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    cores = len(os.sched_getaffinity(0))
    return f"{processor()}, {cores} cores; Python {platform.python_version()}, {versions}"
