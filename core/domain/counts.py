"""Numbers of things, as messages say them."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 image``, ``0 images``, ``1,200 images``. ``plural``: where it is not the noun and an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
