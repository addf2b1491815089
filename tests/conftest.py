"""What holds for every test: a cluster's key of its own, and nothing in the user's home."""

from collections.abc import Iterator

import pytest

from transfer import keys


@pytest.fixture(scope="session", autouse=True)
def keys_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In the environment, so that processes that tests start find it too."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.setenv(keys.VARIABLE, str(keys.make(folder / "keys").folder))
        yield
