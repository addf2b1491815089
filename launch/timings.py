"""Where a request spent its seconds, in the order in which it did."""

ORDER = ("queue", "encoder", "denoiser", "decoder", "monolithic", "transfer", "total")


def in_order(timings: dict[str, float]) -> dict[str, float]:
    """{"total_s": 2.0, "queue_s": 0.1} → {"queue": 0.1, "total": 2.0}; unknown parts come last."""
    named = {name.removesuffix("_s"): seconds for name, seconds in timings.items()}
    known = [name for name in ORDER if name in named]
    return {name: named[name] for name in dict.fromkeys((*known, *named))}
