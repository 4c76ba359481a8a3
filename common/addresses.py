"""Addresses that bear a password or a token, which a run would write down in clear."""

import re

_USER = re.compile(r"(?<=://)(?:[^/?#@:\[]*:(?!\d*(?:[/?#]|$)).*@|(?<=http://)[^/?#@]+@|(?<=https://)[^/?#@]+@)")
_SECRET = "signature|token|secret|passw|api.?key|credential"
_TOKEN = re.compile(rf"(?<=[?&])((?:[^=&#]*(?:{_SECRET})[^=&#]*|sig)=)[^&#]+", re.IGNORECASE)


def without_secrets(address: str) -> str:
    """An address without its user, password and tokens; as it is where it has no secret."""
    return _TOKEN.sub(r"\1…", _USER.sub("…@", address))
