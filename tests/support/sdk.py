"""OpenAI's own client, both of its kinds, at one front door."""

import asyncio
from typing import Any

import openai

from tests.support.front_door import Door


class Clients:
    """One server, and both clients of the SDK; `call` uses either and gives the result."""

    def __init__(self, door: Door, url: str, sync: bool) -> None:
        self.door, self.url, self.sync = door, url, sync
        base_url = f"{url}/v1"
        self._sync = openai.OpenAI(api_key="unused", base_url=base_url, max_retries=1)
        self._async = openai.AsyncOpenAI(api_key="unused", base_url=base_url, max_retries=1)

    async def call(self, path: str, **arguments: Any) -> Any:
        """`path`: what comes after the client, "images.generate"."""
        function: Any = self._sync if self.sync else self._async
        for name in path.split("."):
            function = getattr(function, name)
        if self.sync:
            return await asyncio.to_thread(function, **arguments)
        return await function(**arguments)

    async def raw(self, method: str, address: str, **arguments: Any) -> Any:
        """Any address below /v1, as the SDK lets one call it."""
        function = getattr(self._sync if self.sync else self._async, method)
        if self.sync:
            return await asyncio.to_thread(function, address, cast_to=object, **arguments)
        return await function(address, cast_to=object, **arguments)

    def patient_for(self, retries: int) -> "Clients":
        self._sync = self._sync.with_options(max_retries=retries)
        self._async = self._async.with_options(max_retries=retries)
        return self

    async def generate(self, **arguments: Any) -> Any:
        return await self.call("images.generate", prompt="a cat", **arguments)

    async def close(self) -> None:
        self._sync.close()
        await self._async.close()
