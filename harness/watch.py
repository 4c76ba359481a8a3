"""The command `gramlab watch runs/EXPERIMENT`: `gramlab status` again and again until nothing is left to do."""

from harness.status import watch as main

__all__ = ["main"]
