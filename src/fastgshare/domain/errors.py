"""The one exception tree. Everything the project raises on purpose derives from `FastGShareError`."""

from __future__ import annotations


class FastGShareError(Exception):
    """Base of all errors raised on purpose; its text is one clear sentence for a person."""


class InvalidValue(FastGShareError):
    """A value from outside is not allowed. Names the field, the value and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {value!r} is not allowed; allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class NotFound(FastGShareError):
    """Nothing of that name is known here."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} does not exist")
        self.kind = kind
        self.name = name


class NoPlacement(FastGShareError):
    """A set of shares has no place on the devices at hand; the text says why."""


class InstanceFailed(FastGShareError):
    """An instance could not start, or ended by itself; the text carries its last words.

    blameless: for what others did, or befell its device; patience_s: how long to wait then before another is tried.
    """

    def __init__(self, instance_id: str, reason: str, *, blameless: bool = False, patience_s: float = 0.0) -> None:
        super().__init__(f"instance {instance_id}: {reason}")
        self.instance_id = instance_id
        self.reason = reason
        self.blameless = blameless
        self.patience_s = patience_s


class InstanceLost(InstanceFailed):
    """An instance went away with a batch that it was given; the batch may be sent elsewhere.

    begun: whether it may have begun to work on the batch.
    """

    def __init__(self, instance_id: str, reason: str, *, begun: bool = True) -> None:
        super().__init__(instance_id, reason)
        self.begun = begun


class DaemonUnavailable(FastGShareError):
    """The node daemon does not answer."""


class PartitionerUnavailable(FastGShareError):
    """A device's SMs cannot be divided: what divides them does not start or does not answer."""


class WireError(FastGShareError):
    """Bytes from a peer do not follow the protocol; the connection is to be closed."""
