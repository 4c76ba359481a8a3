"""How the files of a set are read: what its levels, values of masks and depth mean, and which files are left out."""

from __future__ import annotations

from dataclasses import fields

from common.schema import settings


@settings
class Reading:
    """What the files of a set do not say by themselves; each default is what most sets have."""

    def changed(self) -> tuple[tuple[str, object], ...]:
        """The settings that differ from their defaults, by name: part of the set's fingerprint."""
        found = ((one.name, getattr(self, one.name), one.default) for one in fields(Reading))
        return tuple((name, value) for name, value, default in found if value != default)


AS_USUAL = Reading()
