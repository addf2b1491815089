"""A log that a test can wait on."""

import asyncio


class Lines(list[str]):
    """Called with a process's name and a line, as a supervisor does; holds "name: line"."""

    def __init__(self) -> None:
        super().__init__()
        self._grown = asyncio.Event()

    def __call__(self, name: str, line: str) -> None:
        self.append(f"{name}: {line}")
        self._grown.set()

    async def first(self, part: str) -> str:
        """The first line that has `part` in it, as soon as it is there."""
        while True:
            for line in self:
                if part in line:
                    return line
            self._grown.clear()
            await self._grown.wait()
