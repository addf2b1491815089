"""Every benchmark can be started: what it imports is there."""

import importlib
import pkgutil

import pytest

import benchmarks

MODULES = sorted(each.name for each in pkgutil.walk_packages(benchmarks.__path__, "benchmarks."))


@pytest.mark.parametrize("name", MODULES)
def test_it_imports(name):
    importlib.import_module(name)
