"""Mistakes of the person at the keyboard, as opposed to bugs."""


class UserError(RuntimeError):
    """One sentence: what is wrong, where, what to do. The tools print it without a traceback and exit with 2."""


class CheckpointError(UserError):
    """A weights file that is missing, unsafe, unreadable or of another model."""


class ConfigError(UserError):
    """A config or an option that cannot be used as written."""


class DataError(UserError):
    """An annotation file or an image folder that does not fit the config."""
