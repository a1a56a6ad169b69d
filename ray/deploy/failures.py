"""How a command ends when it cannot do what it was asked: one line, never a traceback."""

from __future__ import annotations


class UsageError(Exception):
    """The command line itself is wrong. Exit status 2."""


class DeployError(Exception):
    """The command could not do it: exit status 1. The message names the thing and the remedy, and no secret."""

    def __init__(self, message: str, *, code: str = "deploy_failed") -> None:
        super().__init__(message)
        self.code = code
