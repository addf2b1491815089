"""Everything that can go wrong between processes, by what the caller has to do about it."""


class TransferError(Exception):
    """Base of the errors of this package."""


class PayloadError(TransferError):
    """A payload cannot be packed, or what arrived is not what was sent. Costs its request only."""


class PoolError(TransferError):
    """A slot pool cannot be made or opened, so the process cannot serve. Says the remedy."""


class PayloadTooLarge(TransferError):
    """A payload that never fits: `nbytes` against `limit`, both in bytes."""

    def __init__(self, nbytes: int, limit: int) -> None:
        super().__init__(f"a payload of {nbytes} bytes, {limit} fit into the pool")
        self.nbytes = nbytes
        self.limit = limit


class TransferFailed(TransferError):
    """A write into granted slots failed.

    `may_land` False: no byte of it will arrive from now on, so the slots can be leased again.
    `may_land` True: the rest may still arrive later (a receiver that was stopped and woke up, a
    write that timed out in the network), so the slots stay in quarantine.
    """

    def __init__(self, message: str, *, may_land: bool) -> None:
        super().__init__(message)
        self.may_land = may_land


class BackendMissing(TransferError):
    """A transfer backend was asked for by name and cannot run here. The message says the remedy."""


class MediaError(TransferError):
    """A finished file cannot be read: its owner does not answer, or no longer has it."""


class KeysError(TransferError):
    """The cluster's key pair is missing, cannot be made, or is not safe. Says the remedy."""
