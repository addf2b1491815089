"""The instances of one role, in registered endpoint order.

A place is fixed when its endpoint is declared or first registers, and stays when the instance
goes: whoever comes back with the same endpoint, or else the same name, takes it again.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from orchestrator.core.instances import Instance, Post
from orchestrator.core.policies import Policy, Turns, least_backlog
from transfer.costs import Shape
from transfer.messages import Priority, Role

LAST_CHOICE = 1e9  # more than any policy's number


class Place:
    """`post` is the last one that stood here; its instance may be lost."""

    def __init__(self, order: int, endpoint: str, declared: bool) -> None:
        self.order = order
        self.endpoint = endpoint
        self.declared = declared
        self.name: str | None = None
        self.post: Post | None = None

    @property
    def taken(self) -> bool:
        return self.post is not None and self.post.instance.live


class Rooms(NamedTuple):
    """Places with room: those that can take a request that is ready `now`, and those that can be
    promised one, `ahead`."""

    now: Turns
    ahead: Turns


Group = tuple[Priority, Shape | None]
_NOBODY = Rooms(Turns(), Turns())


class Roster:
    """Places of one role, and which of them have room.

    Classes of requests find room apart from each other, because each has all places of an instance.
    Where the policy goes by seconds (`by_cost`), the instances that compute a shape are also kept
    in order apart, so that the best of those is found as quickly as the best of all. Lists of a
    class are kept from its first request on.
    At most 2 `max_places` places are remembered of instances that are gone.
    """

    def __init__(self, role: Role, declared: list[str], policy: Policy, max_places: int) -> None:
        self.role: Role = role
        self.places: list[Place] = []
        self.live = 0
        self.by_cost = policy is least_backlog
        self._rooms: dict[Group, Rooms] = {("normal", None): Rooms(Turns(), Turns())}
        self._classes: list[Priority] = ["normal"]
        self._policy = policy
        self._max_places = max_places
        self._by_endpoint: dict[str, Place] = {}
        self._by_name: dict[str, Place] = {}
        self._pools: Counter[int] = Counter()  # bytes of a pool → how many instances have it
        self._ready: set[int] = set()
        self._last = -1
        for endpoint in declared:
            if endpoint not in self._by_endpoint:
                self._append(endpoint, declared=True)

    @property
    def available(self) -> int:
        """How many instances may be given work."""
        return len(self._ready)

    @property
    def largest_pool(self) -> int:
        """Bytes of the largest payload that any live instance could ever take; 0: none lives."""
        return max(self._pools, default=0)

    def seat(self, instance: Instance, capacity: int) -> Post:
        """Gives a newly registered instance its place."""
        if len(self.places) >= self.live + 2 * self._max_places:
            self._forget_the_past()
        place = self._find(instance) or self._append(instance.endpoint, declared=False)
        self._rename(place, instance)
        place.post = Post(instance, self.role, capacity, place.order)
        self.live += 1
        self._pools[instance.slots.nbytes] += 1
        self.refresh(place.post)
        return place.post

    def leave(self, post: Post, forget: bool) -> None:
        """The instance is not live any more. `forget`: it said goodbye, or is known to be dead."""
        self.refresh(post)
        self.live -= 1
        nbytes = post.instance.slots.nbytes
        self._pools[nbytes] -= 1
        if not self._pools[nbytes]:
            del self._pools[nbytes]
        if forget:
            self.clear(post)

    def clear(self, post: Post) -> None:
        """Shows a lost instance no longer; its place stays."""
        if self._stands(post):
            self.places[post.order].post = None

    def refresh(self, post: Post) -> None:
        """To be called whenever the post's load, its slots or its instance's state changed."""
        if not self._stands(post):
            return
        for priority in self._classes:
            self._list(post, priority)
        if self.by_cost:
            post.listed = set(post.shapes)
        if post.instance.available:
            self._ready.add(post.order)
        else:
            self._ready.discard(post.order)

    def rooms(self, priority: Priority, shape: Shape | None = None) -> Rooms:
        """Who has room for requests of a class; with a shape: of those that compute it."""
        if priority not in self._classes:
            self._classes.append(priority)
            for place in self.places:
                if place.post is not None:
                    self._list(place.post, priority)
        return self._rooms.get((priority, shape)) or _NOBODY

    def find(self, turns: Turns, fits: Callable[[Post], bool]) -> Post | None:
        """The policy's choice among these places, or None."""
        for order in turns.after(self._last):
            post = self.places[order].post
            assert post is not None
            if fits(post):
                return post
        return None

    def chose(self, post: Post) -> None:
        """The next in turn is the one after this."""
        self._last = post.order

    def has(self, fits: Callable[[Post], bool]) -> bool:
        """Whether there is a ready instance like that, with room or without."""
        ready = (self.places[order].post for order in self._ready)
        return any(post is not None and fits(post) for post in ready)

    def after(self, order: int) -> Iterator[Post]:
        """All other live ones in a circle, from the one that comes after that place."""
        for step in range(1, len(self.places)):
            place = self.places[(order + step) % len(self.places)]
            if place.taken and place.post is not None:
                yield place.post

    def posts(self) -> Iterator[Post]:
        """Everyone to be shown, in registered endpoint order."""
        return (place.post for place in self.places if place.post is not None)

    def _stands(self, post: Post) -> bool:
        return post.order < len(self.places) and self.places[post.order].post is post

    def _list(self, post: Post, priority: Priority) -> None:
        number = self._policy(post, priority) + post.suspect * LAST_CHOICE
        now, ahead = post.room(priority)
        self._put((priority, None), post.order, now, ahead, number)
        if self.by_cost:
            for shape in post.shapes:
                self._put((priority, shape), post.order, now, ahead, number)
            for shape in post.listed.difference(post.shapes):
                self._put((priority, shape), post.order, False, False, number)

    def _put(self, group: Group, order: int, now: bool, ahead: bool, number: float) -> None:
        rooms = self._rooms.get(group)
        if rooms is None and not (now or ahead):
            return
        if rooms is None:
            rooms = self._rooms[group] = Rooms(Turns(), Turns())
        if now:
            rooms.now.put(order, number)
        else:
            rooms.now.discard(order)
        if ahead:
            rooms.ahead.put(order, number)
        else:
            rooms.ahead.discard(order)
        if group[1] is not None and not (now or ahead or any(rooms)):
            del self._rooms[group]

    def _find(self, instance: Instance) -> Place | None:
        return self._by_endpoint.get(instance.endpoint) or self._by_name.get(instance.name)

    def _append(self, endpoint: str, declared: bool) -> Place:
        place = Place(len(self.places), endpoint, declared)
        self.places.append(place)
        self._by_endpoint[endpoint] = place
        return place

    def _rename(self, place: Place, instance: Instance) -> None:
        """One name stands at one place only, and at its newest endpoint."""
        before = self._by_name.pop(instance.name, None)
        if before is not None:
            before.name = None
        if place.name is not None:
            self._by_name.pop(place.name, None)
        if place.endpoint != instance.endpoint and not place.declared:
            self._by_endpoint.pop(place.endpoint, None)
            place.endpoint = instance.endpoint
            self._by_endpoint[place.endpoint] = place
        place.name = instance.name
        self._by_name[instance.name] = place

    def _forget_the_past(self) -> None:
        """Drops the places that nobody holds, but the declared ones. The order stays."""
        kept = [place for place in self.places if place.taken or place.declared]
        self.places = kept
        self._ready, self._last = set(), -1
        self._rooms = {(each, None): Rooms(Turns(), Turns()) for each in self._classes}
        self._by_endpoint = {place.endpoint: place for place in kept}
        self._by_name = {place.name: place for place in kept if place.name is not None}
        for order, place in enumerate(kept):
            place.order = order
            if place.post is not None:
                place.post.order = order
                self.refresh(place.post)
