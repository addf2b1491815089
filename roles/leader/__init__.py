"""The leader of an instance: it talks, schedules, and keeps its ranks alive. Imports no torch."""
