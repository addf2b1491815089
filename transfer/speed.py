"""The words for what makes a model faster, and what the types of step caches read. Pure."""

import msgspec

from transfer.messages import Speed, StepCache, StepCacheType

DEFAULTS: dict[StepCacheType, StepCache] = {
    "none": StepCache("none"),
    "first_block": StepCache("first_block", threshold=0.05),
    "taylorseer": StepCache("taylorseer", interval=5),
    "pyramid": StepCache("pyramid", interval=2),
}
MAX_INTERVAL = 100  # steps
WRITTEN = "none, first_block[:THRESHOLD], taylorseer[:INTERVAL] or pyramid[:INTERVAL]"


def complete(asked: StepCache) -> StepCache:
    """With what was left out. Raises ValueError with a sentence for whoever asked."""
    default = DEFAULTS[asked.type]
    for name in ("threshold", "interval"):
        if getattr(asked, name) is not None and getattr(default, name) is None:
            raise ValueError(f"{asked.type} has no {name}")
    if asked.threshold is not None and not 0 < asked.threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, not {asked.threshold:g}")
    if asked.interval is not None and not 2 <= asked.interval <= MAX_INTERVAL:
        raise ValueError(f"interval must be 2 to {MAX_INTERVAL} steps, not {asked.interval}")
    given = {name: v for name, v in msgspec.structs.asdict(asked).items() if v is not None}
    return msgspec.structs.replace(default, **given)


def parse_step_cache(text: str) -> StepCache:
    """`first_block`, `first_block:0.08`, `pyramid:3`. Raises ValueError with a sentence."""
    kind, _, number = text.strip().partition(":")
    default = DEFAULTS.get(kind)  # type: ignore[call-overload]
    if default is None:
        raise ValueError(f"{kind!r} is no step cache; write {WRITTEN}")
    if not number:
        return complete(default)
    try:
        given = {"interval": int(number)} if default.interval else {"threshold": float(number)}
    except ValueError:
        raise ValueError(f"{number!r} is no number for {kind}; write {WRITTEN}") from None
    return complete(StepCache(kind, **given))  # type: ignore[arg-type]


def write_step_cache(cache: StepCache) -> str:
    """As `parse_step_cache` reads it."""
    number = cache.interval if cache.threshold is None else cache.threshold
    return cache.type if number is None else f"{cache.type}:{number:g}"


def chosen(speed: Speed | None, asked: StepCache | None) -> StepCache | None:
    """The step cache of a request: what it asked for, or what its denoiser does by itself."""
    cache = asked or (speed.step_cache if speed else None)
    return None if cache is None or cache.type == "none" else complete(cache)


def switches(speed: Speed | None, asked: StepCache | None = None) -> list[str]:
    """What is on for such a request and changes its pixels, each as its flag is written."""
    cache, found = chosen(speed, asked), []
    if speed is not None and speed.compile:
        found.append("compile")
    if speed is not None and speed.attention is not None:
        found.append(f"attention-backend={speed.attention}")
    if speed is not None and speed.quantize is not None:
        found.append(f"quantize={speed.quantize}")
    if speed is not None and speed.context is not None:
        found.append(speed.context.replace(",", " "))
    if cache is not None:
        found.append(f"step-cache={write_step_cache(cache)}")
    return found


def why_fixed(speed: Speed | None) -> str | None:
    """Why the weights of such a denoiser cannot be exchanged, moved or added to; None if they
    can."""
    if speed is None or "tensor=" not in (speed.context or ""):
        return None
    return f"started with --parallel {speed.context}: each rank has a part of the weights"


def is_tuned(speed: Speed | None) -> bool:
    """Whether the transformer runs in another way for all requests, and has to be tried first."""
    return bool(switches(speed, StepCache("none")))


def told(speed: Speed | None, asked: StepCache | None = None) -> str | None:
    """`switches` in one line, for a header and for the text in a file; None: nothing is on."""
    return ", ".join(switches(speed, asked)) or None
