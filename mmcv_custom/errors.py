"""Exceptions for mistakes of the user, as opposed to bugs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(RuntimeError):
    """A mistake of the user, in one sentence: what is wrong, where, what to do.

    The tools print it without a traceback and exit with code 2.
    """


class CheckpointError(UserError):
    """A weights file that is missing, unsafe, unreadable or made for another model."""


class ConfigError(UserError):
    """A config or an option that cannot be used as written."""


class DataError(UserError):
    """An annotation file or an image folder that does not fit the config."""


class DiskFullError(UserError):
    """A disk, or the user's part of it, that has no space for a file."""


@contextmanager
def building_from_config() -> Iterator[None]:
    """Raise ConfigError where the body, which builds objects from a config, fails on what the config says.

    Registries and constructors raise AssertionError, KeyError, TypeError and ValueError for unknown names, unknown
    arguments and impossible values, and a config raises AttributeError for a key that it lacks. Keep the body down to
    the building: around other code a bug would pass for a wrong config.
    """
    try:
        yield
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError) and " " not in reason:
            reason = f"the key {reason} is missing"
        raise ConfigError(f"the config does not fit: {reason}") from error
    except AttributeError as error:
        missing = re.search(r"'ConfigDict' object has no attribute ('\w+')", str(error))
        if not missing:
            raise
        raise ConfigError(f"the config does not fit: the key {missing[1]} is missing") from error


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an exception and those that it was raised from or during."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
