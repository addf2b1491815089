"""Durable jobs: accepted means written down, and every one of them ends exactly once."""
