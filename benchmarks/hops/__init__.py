"""What crosses each hop at real scale, and what each role holds: see `benchmarks.hops.__main__`."""
