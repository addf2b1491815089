"""When the previews of a request are due: the orchestrator asks for them, and the denoiser stops to
be asked."""


def passed(step: int, steps: int, previews: int) -> int:
    """How many of a request's previews should have been made after so many of its steps: they are
    spread evenly, the ends of all but the last of k + 1 equal parts."""
    return min(previews, step * (previews + 1) // steps) if 0 < step < steps else 0
