"""What the settings of an experiment may be, until they say it beside their types."""


def require(ok: bool, message: str) -> None:
    """Raises ValueError with `message` unless `ok`."""
    if not ok:
        raise ValueError(message)
