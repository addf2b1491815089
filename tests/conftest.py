"""What holds for every test: a cluster's key of its own, and nothing in the user's home."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from transfer import keys

HERE = Path(__file__).parent
LONG = {
    "e2e/test_command_line.py",
    "e2e/test_components_from_elsewhere.py",
    "e2e/test_divided_pipelines.py",
    "e2e/test_divided_tiles.py",
    "e2e/test_documented_examples.py",
    "e2e/test_encoder_cache.py",
    "e2e/test_faults.py",
    "e2e/test_media_in_and_out.py",
    "e2e/test_placement.py",
    "e2e/test_serve.py",
    "e2e/test_several_models.py",
    "e2e/test_start_and_stop.py",
    "e2e/test_step_cache.py",
    "e2e/test_streaming.py",
    "orchestrator/jobs/test_jobs_survive.py",
    "roles/nodes/test_hub_and_node.py",
    "roles/leader/test_leader_hosts.py",
    "roles/leader/test_closing.py",
    "roles/leader/test_leader_ranks.py",
    "roles/leader/test_leader_tiles.py",
    "roles/leader/test_leader_warms_up.py",
    "roles/leader/test_three_leaders.py",
    "roles/rank/test_world.py",
}
"""They start many processes, most of which import torch: `make chaos` runs them, `make test` those
of their parts."""


LONGEST = [
    "simulation/test_simulation.py",
    "chaos/test_leaks.py",
    "simulation/engines/test_engines.py",
    "roles/leader/test_leader.py",
    "conformance/test_sample.py",
    "roles/split/weights/test_text_adapters.py",
    "roles/split/test_switches.py",
    "roles/split/denoising/test_portable.py",
    "roles/split/denoising/test_batching.py",
]
"""They come first: a process of `make test` that takes one up last would keep the other waiting."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    place = {HERE / name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
    if os.environ.get("CHAOS") == "all":
        return
    files = {HERE / name for name in LONG}
    long = [item for item in items if item.path in files]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not look through torch again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def keys_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In the environment, so that processes that tests start find it too."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.setenv(keys.VARIABLE, str(keys.make(folder / "keys").folder))
        yield
