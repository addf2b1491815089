"""Forwards of several requests as one: what may be concatenated, and how the result comes apart.

Nothing here knows a model family. What an argument is, is found from its name, its shape and the
number of samples in the call (the first dimension of the latents, guidance branches included):

- *each*: the first dimension counts the samples: concatenated. Latents, embeddings, timesteps.
- *same*: has to be equal in all calls, and is passed once. Numbers, names, position ids, scales of
  a model's layers.
- *both*: position ids with a dimension for samples: have to be equal, and are concatenated all the
  same, because some models read them of the first sample only.
- *spread*: a timestep for all samples of a call: repeated for each of them.
- lists with an entry for each sample are joined. Their tensors may differ in the first dimension
  (a list is a pipeline's way of saying so), but for the latents: mixed sizes are slower together.
  Lists of tensors that each count the samples are joined tensor by tensor.

What does not fit in here runs alone, and so does what `roles.split.quirks` lists. Results differ
from those of single forwards by rounding.
"""

import functools
import hashlib
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch.utils.weak import WeakIdKeyDictionary

from roles.split.denoising.timesteps import spreads
from roles.split.program import TransformerCall
from roles.split.quirks import ALONE, PADDED

How = Literal["each", "same", "both", "spread"]

_LATENTS = ("hidden_states", "sample", "x")
_TIMES = ("timestep", "t")
_POSITIONS = re.compile(  # sizes and crops, which some models are conditioned on, are none
    r"(^|_)(img|txt|image|text|cond|pos|position|token)_ids$"
    r"|(?<!crop_)coords|rotary|(^|_)rope|freqs|(^|_)grid"
)
_digests: WeakIdKeyDictionary = WeakIdKeyDictionary()
_keys: WeakKeyDictionary[TransformerCall, str | None] = WeakKeyDictionary()


class Unmergeable(Exception):
    """These arguments, or this result, are not understood: the forward runs alone. Says why."""


def key_of(call: TransformerCall) -> str | None:
    """Calls with equal keys may run as one; None: this one runs alone.

    "FORM:VALUES", both hexadecimal: FORM stands for the module, the structure of the arguments,
    shapes, dtypes, devices and plain values; VALUES for the contents of shared tensors. What a
    forward costs depends on FORM only. Told once for each call.
    """
    if call not in _keys:
        try:
            _keys[call] = Form(call).key()
        except Unmergeable:
            _keys[call] = None
    return _keys[call]


def merge(calls: Sequence[TransformerCall]) -> tuple[TransformerCall, list[int]]:
    """One call for several with equal keys, and the number of samples of each."""
    forms = [Form(call) for call in calls]
    named = _padded(forms)
    first = calls[0]
    if any(call.module is not first.module for call in calls):
        raise Unmergeable("these are forwards of different modules")
    joined = {name: _join(forms, name, [each[name] for each in named]) for name in named[0]}
    args = tuple(joined.pop(name) for name in forms[0].positional)
    together = TransformerCall(first.module, first.name, args, joined, worn=first.worn)
    return together, [f.count for f in forms]


def split(output: Any, counts: Sequence[int], listed: bool = False) -> list[Any]:
    """A forward's result, taken apart: one for each call, of the same structure. `listed`: its
    latents were a list (`lists_samples`). Raises `Unmergeable` if there is something in it that
    does not count the samples."""
    if output is None or isinstance(output, bool | int | float | str):
        return [output for _ in counts]
    if isinstance(output, torch.Tensor) and output.ndim and len(output) == sum(counts):
        return list(torch.split(output, list(counts)))
    if isinstance(output, dict):  # diffusers' outputs too
        parts = {key: split(value, counts, listed) for key, value in output.items()}
        return [like(output, {k: v[i] for k, v in parts.items()}) for i in range(len(counts))]
    if type(output) is tuple:
        return list(zip(*(split(item, counts, listed) for item in output), strict=True))
    if type(output) is list and output:
        if not is_list_of_tensors(output, sum(counts), listed):
            ends = [sum(counts[: i + 1]) for i in range(len(counts))]
            return [output[end - count : end] for end, count in zip(ends, counts, strict=True)]
        return list(map(list, zip(*(split(item, counts) for item in output), strict=True)))
    raise Unmergeable(f"a result with a {type(output).__name__} that does not count the samples")


def is_list_of_tensors(output: list[Any], samples: int, listed: bool) -> bool:
    """Whether a list in a result is of tensors that each count the samples, as the residuals of a
    ControlNet; otherwise it has an entry for each sample. Raises `Unmergeable` if it is neither.

    A model gives its samples as it gets them: tensors in a list are samples if its latents were
    `listed`. How many there are tells nothing, for that changes with those who share the forward.
    """
    if listed or not any(isinstance(each, torch.Tensor) for each in output):
        if len(output) == samples:
            return False
    elif all(isinstance(x, torch.Tensor) and x.ndim and len(x) == samples for x in output):
        return True
    raise Unmergeable("a result with a list that does not count the samples")


def lists_samples(call: TransformerCall) -> bool:
    """Whether a model is given its samples as a list. Raises `Unmergeable`."""
    form = Form(call)
    return isinstance(form.named[form.latents], list)


class Form:
    """How the arguments of one call divide into samples. Raises `Unmergeable`."""

    def __init__(self, call: TransformerCall) -> None:
        kind = type(call.module).__name__
        if call.alone is not None or kind in ALONE:
            raise Unmergeable(call.alone or ALONE[kind])
        if call.hooks is not None or getattr(call.module, "is_cache_enabled", False):
            raise Unmergeable("a step cache keeps states for each request")
        self.call = call
        self.kind = kind
        self.positional = _names(call)
        self.named = {**dict(zip(self.positional, call.args, strict=True)), **call.kwargs}
        self.latents = next((n for n in _LATENTS if self.named.get(n) is not None), "")
        samples: Any = self.named.get(self.latents)
        if not isinstance(samples, list) and not (_is_plain(samples) and samples.ndim):
            raise Unmergeable("there are no latents to count")
        self.count = len(samples)
        self.padding = PADDED.get(kind)

    def key(self) -> str:
        form = [self.call.name, self.kind, str(self.count), *self.positional]
        if self.call.worn is not None:
            form += [f"{lora.name}*{lora.scale}" for lora in self.call.worn.loras]
        values: list[str] = []
        for name in sorted(self.named):
            if self.padding is None or name != self.padding.mask:
                form.append(name)
                self._describe(name, self.named[name], form, values)
        return f"{_hash(form)}:{_hash(values)}"

    def values(self, name: str) -> str:
        """What stands for the contents that other calls have to have too, of one argument."""
        values: list[str] = []
        self._describe(name, self.named.get(name), [], values)
        return _hash(values)

    def how(self, name: str, tensor: torch.Tensor) -> How:
        """What is done with a tensor. Raises `Unmergeable`."""
        counts = tensor.ndim > 0 and len(tensor) == self.count
        if name in _TIMES and not counts and tensor.numel() == 1 and self._spreads(tensor.ndim):
            return "spread"
        if _POSITIONS.search(name):
            return "both" if counts and tensor.ndim > 2 else "same"
        if tensor.ndim == 0 or (tensor.ndim == 1 and not counts and name.endswith("_scale")):
            return "same"
        if not counts:
            raise Unmergeable(f"{name} has {len(tensor)} rows for {self.count} samples")
        return "each"

    def spreads(self, name: str, value: Any) -> bool:
        """Whether this is a timestep as a plain number, for a model that takes one a sample."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return name in _TIMES and is_number and self._spreads(0)

    def is_list_of_samples(self, name: str, value: Any) -> bool:
        """Whether a list has an entry for each sample: tensors, or nested values. Where it could as
        well be as many tensors that count the samples each, as the residuals of a ControlNet, it is
        taken for that, but for the latents."""
        if not isinstance(value, list) or len(value) != self.count:
            return False
        if name != self.latents and all(map(self._counts, value)):
            return False
        return all(isinstance(each, torch.Tensor | list | tuple | dict) for each in value)

    def _counts(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.ndim > 2 and len(value) == self.count

    def _spreads(self, dimensions: int) -> bool:
        kind: type = type(self.call.module)
        return dimensions == 1 or spreads(kind)

    def _describe(self, name: str, value: Any, form: list[str], values: list[str]) -> None:
        if isinstance(value, torch.Tensor):
            self._describe_tensor(name, value, form, values)
        elif type(value) is dict:
            form.append(f"dict {len(value)}")
            for key in sorted(value):
                form.append(str(key))
                self._describe(str(key), value[key], form, values)
        elif self.is_list_of_samples(name, value):
            form.append("samples")
            self._describe_samples(name, value, form)
        elif type(value) in (list, tuple):
            form.append(f"{type(value).__name__} {len(value)}")
            for each in value:
                self._describe(name, each, form, values)
        elif self.spreads(name, value):
            form.append(type(value).__name__)
        elif value is None or isinstance(value, bool | int | float | str | torch.dtype):
            form.append(repr(value))
        else:
            raise Unmergeable(f"{name} is a {type(value).__name__}")

    def _describe_tensor(
        self, name: str, tensor: torch.Tensor, form: list[str], values: list[str]
    ) -> None:
        if not _is_plain(tensor):
            raise Unmergeable(f"{name} is a {type(tensor).__name__}")
        how = self.how(name, tensor)
        shape: list[Any] = list(tensor.shape)
        if self.padding is not None and name == self.padding.name:
            shape[1] = "any"
        form.append(f"{how} {tensor.dtype} {tensor.device} {shape}")
        if how in ("same", "both"):
            values.append(_digest(tensor))

    def _describe_samples(self, name: str, value: list[Any], form: list[str]) -> None:
        if not all(isinstance(each, torch.Tensor) for each in value):
            # nested values cannot be told from positions: they have to be equal
            form += sorted({repr(_plain_values(name, each)) for each in value})
            return
        from_dim = 0 if name == self.latents else 1
        parts = {f"{e.dtype} {e.device} {e.ndim} {list(e.shape[from_dim:])}" for e in value}
        if len(parts) > 1 or not all(map(_is_plain, value)):
            raise Unmergeable(f"the entries of {name} differ in shape")
        form += parts


def _join(forms: list[Form], name: str, values: list[Any]) -> Any:
    """One argument of several calls, as one."""
    form, first = forms[0], values[0]
    if isinstance(first, torch.Tensor):
        how = form.how(name, first)
        if how == "spread":
            return torch.cat([v.reshape(1).expand(form.count) for v in values])
        return first if how == "same" else torch.cat(values)
    if form.spreads(name, first):
        return _spread_numbers(form, values)
    if type(first) is dict:
        return {key: _join(forms, str(key), [v[key] for v in values]) for key in first}
    if form.is_list_of_samples(name, first):
        return [each for value in values for each in value]
    if type(first) in (list, tuple):
        parts = zip(*values, strict=True)
        return type(first)(_join(forms, name, list(each)) for each in parts)
    return first


def _spread_numbers(form: Form, values: list[Any]) -> torch.Tensor:
    """As the models make a tensor of one number."""
    latents = form.named[form.latents]
    dtype = torch.float64 if isinstance(values[0], float) else torch.int64
    each = torch.tensor(values, dtype=dtype, device=latents.device)
    return each.repeat_interleave(form.count)


def _padded(forms: list[Form]) -> list[dict[str, Any]]:
    """The calls' arguments, in which texts have the same length where a model knows masks."""
    padding = forms[0].padding
    if padding is None:
        return [form.named for form in forms]
    texts = [form.named[padding.name] for form in forms]
    masks = [form.named.get(padding.mask) for form in forms]
    longest = max(text.shape[1] for text in texts)
    if all(mask is None for mask in masks) and all(t.shape[1] == longest for t in texts):
        return [form.named for form in forms]
    padded = []
    for form, text, mask in zip(forms, texts, masks, strict=True):
        missing = longest - text.shape[1]
        mask = text.new_ones(text.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        pad = torch.nn.functional.pad
        own = {padding.name: pad(text, (0, 0, 0, missing)), padding.mask: pad(mask, (0, missing))}
        padded.append(form.named | own)
    return padded


def _names(call: TransformerCall) -> list[str]:
    """The names of the positional arguments."""
    forward = getattr(type(call.module), "forward", None)
    if forward is None:
        raise Unmergeable("this is no module")
    names = _parameters(forward)
    if len(call.args) > len(names):
        raise Unmergeable("there are arguments without a name")
    return names[: len(call.args)]


@functools.lru_cache(maxsize=64)
def _parameters(forward: Any) -> list[str]:
    found = list(inspect.signature(forward).parameters.values())[1:]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    return [each.name for each in found if each.kind in kinds]


def _is_plain(value: Any) -> bool:
    """Whether this is a tensor that holds its numbers itself."""
    return type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout == torch.strided


def _plain_values(name: str, value: Any) -> Any:
    """Nested plain values, as they are; what else is in there is not understood."""
    if isinstance(value, list | tuple):
        return [_plain_values(name, each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise Unmergeable(f"{name} holds a {type(value).__name__} for each sample")


def _digest(tensor: torch.Tensor) -> str:
    """The hash of a tensor's contents; pipelines pass the same tensor with each step."""
    version = -1 if tensor.is_inference() else tensor._version
    known = _digests.get(tensor)  # type: ignore[no-untyped-call]
    if known is not None and known[0] == version and version >= 0:
        return str(known[1])
    data = tensor.detach().reshape(-1).contiguous().view(torch.uint8).cpu().numpy()
    digest = hashlib.blake2b(data.tobytes(), digest_size=8).hexdigest()
    _digests[tensor] = (version, digest)
    return digest


def _hash(words: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(words).encode(), digest_size=8).hexdigest()


def like(original: dict[str, Any], items: dict[str, Any]) -> Any:
    """A dict, or an output of diffusers', with other contents."""
    return items if type(original) is dict else type(original)(**items)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in a forward's result, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)
