"""Text that is generated, a token at a time: an encoder's pipeline as a coroutine.

Some pipelines have their text encoder, or a model beside it, write something first: a better
prompt, the caption of a picture, the tokens of a picture's plan. They call `generate` of
transformers, which calls the model's forward once for each token. That forward is a door, as the
transformer's is in a denoiser (`roles.split.denoising.door`): the request's pipeline runs in a
greenlet of its own and stands still there, so that requests take turns or share a forward, tell how
far they are, and end within a token.

What `generate` notes on itself is written to a view of the model that the request has of its own;
what the model notes on its modules is put aside between two tokens
(`roles.split.encoding.carried`); and what it draws comes from the request's own state of torch's
generators.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from roles.split.denoising.standing import Standing
from roles.split.encoding.carried import Carried, Notes
from roles.split.encoding.seats import Seats
from roles.split.encoding.tokens import CACHE, TokenCall
from roles.split.program import Checkpoint, NoPreview
from roles.split.randomness import GlobalRandomness
from roles.split.weights.adapters import Worn

DEFAULT_TOKENS = 20  # of a model that does not say, as transformers has it
MOST_TOKENS = 1 << 20  # some say a number without a meaning


class Generator:
    """A component that generates, shared by all requests."""

    def __init__(self, name: str, module: Any) -> None:
        self.name, self.module = name, module
        self.seats = Seats()
        self.notes = Notes(module)


class Generation(Standing):
    """A pipeline of the encoder's role; a `Denoising` whose steps are tokens.

    `program(self)` runs the pipeline with what `generate_of` gives for its models, and returns its
    result. `step` of `steps`: tokens that there are, and may be at most, over all that the pipeline
    has generated so far. `worn`: the adapters that the request has on. `leave` is called once, when
    the pipeline has ended in whichever way.
    """

    def __init__(
        self,
        request: str,
        program: "Callable[[Generation], Any]",
        generators: Iterable[Generator],
        randomness: GlobalRandomness,
        worn: Worn | None = None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(request, lambda: program(self), randomness, leave)
        self._worn = worn
        self.step = self.steps = 0
        self.pending: tuple[TokenCall, ...] = ()
        self.checkpoint: Checkpoint | None = None
        self._carried = {each.name: Carried(each.notes) for each in generators}

    def read(self) -> None:
        """Runs the forwards that read a prompt, each alone, until one of a token is waited for."""
        while self.pending and not self.pending[0].single:
            self.resume([call.run() for call in self.pending])

    def resume(self, outputs: Sequence[Any]) -> None:
        assert len(outputs) == len(self.pending) > 0, "one result for each pending forward"
        self._switch(self._greenlet.switch, outputs)

    def mark(self) -> None:
        """Nothing comes of it: a text that is half written begins again."""

    def preview(self) -> Any:
        raise NoPreview("there are none of a text")

    def generate_of(self, generator: Generator) -> Callable[..., Any]:
        """The `generate` of a model, whose forwards wait at the door."""
        module, seats, carried = generator.module, generator.seats, self._carried[generator.name]

        @functools.wraps(module.generate)
        def generate(*args: Any, **kwargs: Any) -> Any:
            used: list[Any] = []

            def forward(*places: Any, **given: Any) -> Any:
                if places:  # not as transformers' own ways of generating call it
                    return module(*places, **given)
                used[:] = [given.get(CACHE)]
                call = TokenCall(module, generator.name, given, seats, carried, self._worn)
                (output,) = self._wait((call,))
                return output

            counting = _Counting(self, _most(module, args, kwargs))
            own = [*(kwargs.pop("stopping_criteria", None) or ()), counting]
            view = _view(module, forward)
            try:
                criteria = StoppingCriteriaList(own)
                made = view.generate(*args, **kwargs, stopping_criteria=criteria)
                if isinstance(made, dict) and CACHE in made:
                    seats.rise(made[CACHE])  # it is asked for
                return made
            finally:
                for cache in used:
                    seats.leave(cache)

        return generate

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        if self._worn is not None:
            self._worn.on_all()
        with contextlib.ExitStack() as stack:
            stack.enter_context(super()._in_place())
            for each in self._carried.values():
                stack.enter_context(each.in_place(look=self.step <= 1))
            yield


class _Counting(StoppingCriteria):
    """Ends nothing: it is told of every token."""

    def __init__(self, generation: Generation, most: int) -> None:
        self._generation = generation
        generation.steps = generation.step + most

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self._generation.step += 1
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _most(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """How many tokens may come of a `generate`."""
    given = kwargs.get("generation_config") or (args[1] if len(args) > 1 else None)
    said = [kwargs, vars(given) if given is not None else {}, vars(module.generation_config)]
    prompt = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
    read = prompt.shape[1] if isinstance(prompt, torch.Tensor) and prompt.ndim > 1 else 0
    new = next((each["max_new_tokens"] for each in said if each.get("max_new_tokens")), None)
    whole = next((each["max_length"] for each in said if each.get("max_length")), None)
    most = new or (whole - read if whole else DEFAULT_TOKENS)
    return max(1, min(int(most), MOST_TOKENS))


def _view(module: Any, forward: Callable[..., Any]) -> Any:
    """The same model, parts and weights and all, but called it goes to `forward`. What is set on it
    stays on it."""
    kind: Any = _kind(module.__class__)
    view = kind.__new__(kind)
    vars(view).update(vars(module))
    vars(view)["_forward_at_the_door"] = forward
    return view


@functools.cache
def _kind(kind: type) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return vars(self)["_forward_at_the_door"](*args, **kwargs)

    def compiles(self: Any, *args: Any, **kwargs: Any) -> bool:
        return False  # a door cannot be

    own = {
        "__call__": call,
        "_valid_auto_compile_criteria": compiles,
        "__module__": kind.__module__,
    }
    return type(kind.__name__, (kind,), own)
