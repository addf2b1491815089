"""The caches of requests that generate together, side by side in one memory.

transformers gives each `generate` a cache of its own, which grows by a copy of all of it at each
token. Those that share their forwards have a row each in a common memory instead: a cache is copied
in when its request joins, out when it leaves, and in between a token writes its own keys and values
and nothing else. Rows are as long as the longest; what a row does not have is masked.
"""

import weakref
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer

ROOM = 128  # tokens; memory grows by whole pieces of so many


class Guest:
    """A cache that has a row. `padding`: tokens at its beginning that nobody looks at, and that the
    row leaves out; `length`: tokens in the row."""

    def __init__(self, cache: DynamicCache, row: int, padding: int, length: int) -> None:
        self.cache = weakref.ref(cache)
        self.row, self.padding, self.length = row, padding, length


class Seat(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer of a request's own cache while its keys and values lie in a row. Whoever asks for
    them, be it to read, write or cut, gets them as ever, and the layer is an ordinary one again."""

    def get_seq_length(self) -> int:
        guest: Guest = vars(self)["guest"]
        return guest.padding + guest.length

    def rise(self) -> None:
        own = vars(self)
        keys, values = own["memory"].copied(own["guest"])  # there may be no room for it
        del own["guest"], own["memory"]
        self.__class__ = DynamicLayer  # type: ignore[assignment]
        self.keys, self.values = keys, values

    def _get(self, name: str) -> torch.Tensor:
        self.rise()
        return vars(self)[name]  # type: ignore[no-any-return]

    def _set(self, name: str, value: torch.Tensor) -> None:
        self.rise()
        vars(self)[name] = value

    keys = property(lambda self: self._get("keys"), lambda self, v: self._set("keys", v))
    values = property(lambda self: self._get("values"), lambda self, v: self._set("values", v))


class Memory(CacheLayerMixin):
    """One layer of all rows: keys and values `[rows, heads, tokens, channels]`, zero where nothing
    was ever written. `update` writes a token of each row at `at`, and gives the first `width`."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized = True
        self.at = torch.zeros(0, dtype=torch.long)
        self.width = 0
        self._both: list[torch.Tensor] = []

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise AssertionError("a guest's keys come first")

    def get_seq_length(self) -> int:
        return self.width - 1

    def get_max_length(self) -> int:
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.width, 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(self.at)
        rows = torch.arange(count, device=self.at.device)
        for memory, states in zip(self._both, (key_states, value_states), strict=True):
            memory[rows, :, self.at] = states[:, :, 0]
        keys, values = (memory[:count, :, : self.width] for memory in self._both)
        return keys, values

    def fit(self, rows: int, tokens: int, like: Any = None) -> None:
        """Has room for so many rows and tokens, of what this layer of a cache has."""
        if not self._both:
            self._both = [
                own.new_zeros(_sized(own, rows, tokens)) for own in (like.keys, like.values)
            ]
        self._both = [_grown(memory, rows, tokens) for memory in self._both]

    def take(self, layer: Any, guest: Guest) -> None:
        """Copies a layer into its row."""
        for memory, own in zip(self._both, (layer.keys, layer.values), strict=True):
            memory[guest.row, :, : guest.length] = own[0, :, guest.padding :]
            memory[guest.row, :, guest.length :] = 0  # of somebody else, perhaps not even a number

    def copied(self, guest: Guest) -> list[torch.Tensor]:
        """Keys and values as the guest's own cache had them; of its padding there is nothing."""
        pad = torch.nn.functional.pad
        rows = [memory[guest.row, None, :, : guest.length] for memory in self._both]
        return [pad(row, (0, 0, guest.padding, 0)).clone() for row in rows]

    def move(self, source: int, target: int) -> None:
        for memory in self._both:
            memory[target] = memory[source]


class Seats:
    """The rows of one model. Rows are numbered from 0 without a gap: who leaves is replaced by the
    last. A guest whose cache is gone leaves with the next change, or with `leave`."""

    def __init__(self) -> None:
        self._guests: list[Guest] = []
        self._layers: list[Memory] = []
        self._mask = torch.zeros(0, 0, dtype=torch.long)
        self.copies = 0  # caches that were copied in, ever

    def __len__(self) -> int:
        return len(self._guests)

    @staticmethod
    def takes(cache: Any) -> bool:
        """Whether this is the usual cache of one request: keys and values of all that was read.
        Sliding windows, states of linear attention, quantized and static caches are none."""
        if type(cache) is not DynamicCache or cache.offloading or not cache.layers:
            return False
        layers: list[Any] = cache.layers
        usual = all(type(each) in (DynamicLayer, Seat) and each.is_initialized for each in layers)
        return usual and all(type(each) is Seat or len(each.keys) == 1 for each in layers)

    @staticmethod
    def beside(cache: DynamicCache) -> DynamicCache:
        """A cache with the same contents, which does not change when this one grows."""
        return DynamicCache(ddp_cache_data=[_contents(layer) for layer in cache.layers])

    def seat(self, caches: list[DynamicCache], masks: list[torch.Tensor | None]) -> list[int]:
        """Makes these the guests, and nobody else; the row of each. `masks`: `[1, tokens + 1]`, of
        the token to come too; None: all of them count. `takes` each of them."""
        for guest in list(self._guests):
            cache = guest.cache()
            if cache is None or not any(cache is each for each in caches):
                self._rise(guest)
        for cache, mask in zip(caches, masks, strict=True):
            if self._guest(cache) is None:
                self._enter(cache, mask)
        found = [self._guest(cache) for cache in caches]
        return [guest.row for guest in found if guest is not None]

    def common(self) -> tuple[Cache, torch.Tensor]:
        """The cache of a forward of one more token of every guest, in the order of rows, and its
        mask `[rows, tokens]`. Nothing has happened until `grow`."""
        lengths = [guest.length for guest in self._guests]
        width = max(lengths) + 1
        self._fit(len(lengths), width)
        at = torch.tensor(lengths, device=self._mask.device)
        self._mask[torch.arange(len(lengths), device=at.device), at] = 1
        for layer in self._layers:
            layer.at, layer.width = at, width
        return Cache(layers=list(self._layers)), self._mask[: len(lengths), :width]

    def grow(self) -> None:
        """The forward counts: each guest has one token more."""
        for guest in self._guests:
            guest.length += 1

    def rise(self, cache: Any) -> None:
        """It goes on by itself, with a copy of its row."""
        if isinstance(cache, DynamicCache) and (guest := self._guest(cache)) is not None:
            self._rise(guest)

    def leave(self, cache: Any) -> None:
        """Its request is over: nothing of it is copied. The last one takes the memory along."""
        if isinstance(cache, DynamicCache) and (guest := self._guest(cache)) is not None:
            cache.layers = []
            self._remove(guest)

    def _guest(self, cache: DynamicCache) -> Guest | None:
        """Its row, if all of its layers are there."""
        guest = next((each for each in self._guests if each.cache() is cache), None)
        if guest is None or all(type(layer) is Seat for layer in cache.layers):
            return guest
        self._rise(guest)  # somebody has asked for a part of it
        return None

    def _enter(self, cache: DynamicCache, mask: torch.Tensor | None) -> None:
        total = cache.get_seq_length()
        padding = 0 if mask is None else int(mask[0, :total].argmax())
        guest = Guest(cache, len(self._guests), padding, total - padding)
        first: Any = cache.layers[0]
        if not self._layers:
            self._layers = [Memory() for _ in cache.layers]
            self._mask = torch.zeros(0, 0, dtype=torch.long, device=first.keys.device)
        rows = len(self._guests) + 1
        self._fit(rows, guest.length + 1, cache)
        self._mask[guest.row] = 0
        self._mask[guest.row, : guest.length] = 1 if mask is None else mask[0, padding:total]
        for layer, memory in zip(cache.layers, self._layers, strict=True):
            memory.take(layer, guest)
            own = vars(layer)
            del own["keys"], own["values"]
            own.update(guest=guest, memory=memory)
            layer.__class__ = Seat
        self._guests.append(guest)
        self.copies += 1

    def _rise(self, guest: Guest) -> None:
        cache = guest.cache()
        for layer in cache.layers if cache is not None else ():
            if isinstance(layer, Seat):
                layer.rise()
        self._remove(guest)

    def _remove(self, guest: Guest) -> None:
        last = self._guests.pop()
        if not self._guests:
            self._layers, self._mask = [], self._mask.new_zeros(0, 0)
        if last is guest:
            return
        for layer in self._layers:
            layer.move(last.row, guest.row)
        self._mask[guest.row] = self._mask[last.row]
        self._guests[guest.row] = last
        last.row = guest.row

    def _fit(self, rows: int, tokens: int, like: DynamicCache | None = None) -> None:
        have_rows, have_tokens = self._mask.shape
        if rows <= have_rows and tokens <= have_tokens:
            return
        tokens = -(-tokens // ROOM) * ROOM
        for index, layer in enumerate(self._layers):
            layer.fit(rows, tokens, None if like is None else like.layers[index])
        self._mask = _grown(self._mask, rows, tokens)


def _grown(memory: torch.Tensor, rows: int, tokens: int) -> torch.Tensor:
    """A memory of so many rows and tokens at least, with what is in this one."""
    dim = 1 if memory.ndim == 2 else 2
    shape = _sized(memory, max(rows, len(memory)), max(tokens, memory.shape[dim]))
    if memory.shape == shape:
        return memory
    grown = memory.new_zeros(shape)
    grown[tuple(slice(0, size) for size in memory.shape)] = memory
    return grown


def _sized(like: torch.Tensor, rows: int, tokens: int) -> tuple[int, ...]:
    """`[rows, tokens]` of a mask, `[rows, heads, tokens, channels]` of keys and values."""
    if like.ndim == 2:
        return rows, tokens
    return rows, like.shape[1], tokens, like.shape[3]


def _contents(layer: Any) -> tuple[torch.Tensor, ...]:
    """Keys and values of a layer, wherever they are; a seat stays one."""
    if isinstance(layer, Seat):
        own = vars(layer)
        return tuple(own["memory"].copied(own["guest"]))
    return layer.keys, layer.values
