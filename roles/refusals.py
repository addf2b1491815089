"""What an instance does not do, and says so."""


class Unsupported(Exception):
    """This role, or this model, does not do such a thing; the message is the reason."""
