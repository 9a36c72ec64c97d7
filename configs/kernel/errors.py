"""Every error a user can act on, in one tree.

    ToolkitError                  the user can act on it; exit code 1
    ├── UsageError                a file or a flag is wrong; exit code 2
    │   └── ConfigError           ... in a configuration file, with the key that is wrong
    ├── NotInstalledError         an engine environment or a model is not installed
    ├── LaunchError               the engine did not come up, or its port is taken
    ├── EndpointError             a server answered, but not with what was asked for
    └── CacheStateError           the cache is not in the state that the arm promises

A message says what happened, where, and what to do next. The command line prints it and exits;
any other exception is a bug and keeps its traceback. A failed request is none of these: it is a
record with an error.
"""

from __future__ import annotations

from pathlib import Path


class ToolkitError(Exception):
    """Something the user can act on."""

    exit_code = 1


class UsageError(ToolkitError):
    """A file or a flag given by the user is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file is wrong; the message starts with the file, its line and the key."""

    def __init__(self, path: Path, message: str, key: str = "", line: int | None = None) -> None:
        where = f"{path}:{line}" if line else str(path)
        super().__init__(f"{where}: {key}: {message}" if key else f"{where}: {message}")


class NotSettledError(ToolkitError):
    """What was asked cannot be answered with what is known here."""

    exit_code = 3


class NotInstalledError(ToolkitError):
    """An engine environment or a model is not installed on this machine."""


class LaunchError(ToolkitError):
    """An engine process did not come up."""


class EndpointError(ToolkitError):
    """A server could not be reached or answered with an error."""


class CacheStateError(ToolkitError):
    """The prefix cache is provably not in the state the arm needs."""
