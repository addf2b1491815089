"""What the ranks of real leaders run in `benchmarks.control_plane`: nothing, in three steps."""

from tests.support.scripted_program import ScriptedProgram
from transfer.messages import ModelInfo, Parameter

INFO = ModelInfo("bench", "Bench", "f00d", "image", [Parameter("prompt", "str", True)])


class Nothing(ScriptedProgram):
    info = INFO


def load(model: str, roles: list[str], dtype: str, device: str) -> Nothing:
    return Nothing()
