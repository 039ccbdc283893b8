"""What words of the command line mean: sizes in bytes and pixels, shares."""

import typer


def byte_count(text: str) -> int:
    """Read a number of bytes with an optional binary suffix, such as 64M.

    All functions here raise typer.BadParameter for other words.
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].upper() in units else (text, "")
    try:
        size = int(float(number) * units.get(unit, 1))
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise typer.BadParameter(f"'{text}' is not a size; write it like 64M or 512K")
    return size


def picture_size(text: str | None) -> dict[str, int]:
    """Read WIDTHxHEIGHT in pixels; nothing where nothing is given."""
    if text is None:
        return {}
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"'{text}' is not a size; write it like 1024x1024")
    return {"width": int(width), "height": int(height)}


def shares(text: str) -> tuple[float, ...]:
    """Read three numbers between commas."""
    try:
        train_share, val_share, test_share = (float(share) for share in text.split(","))
        return train_share, val_share, test_share
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a split; write it like 0.9,0.05,0.05") from None
