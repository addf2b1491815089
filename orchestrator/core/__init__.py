"""The orchestrator's decisions: one pure machine, `handle(event, now) -> commands`.

No socket, clock, thread, file or tensor in here. Everything that must never be wrong is decided
here (lifecycle, capacity, slots, fences), and the same code runs under a simulated network.
"""
