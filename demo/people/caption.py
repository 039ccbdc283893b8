"""Captions: clothes, pose, view and background in varied sentences; never a body's shape, never who it is."""

import numpy as np

from .background import Place
from .clothes import Outfit

_POSE = {
    "standing": ("standing", "standing still"),
    "walking": ("walking", "taking a step"),
    "sitting": ("sitting on a {support}", "seated on a {support}"),
    "arms_raised": ("with both arms raised", "holding both arms up"),
    "leaning": ("leaning against a pillar", "leaning on a pillar"),
    "lying": ("lying on a {support}", "lying down on a {support}"),
}
_VIEW = {
    "front": ("seen from the front", "facing the camera"),
    "three-quarter": ("in three-quarter view", "turned partly to the side"),
    "side": ("seen from the side", "in profile"),
    "back": ("seen from behind", "facing away from the camera"),
}
_PLACE = {
    "studio": ("in front of a {colour} studio backdrop", "in a studio with a {colour} backdrop"),
    "room": ("in a room with {colour} walls", "indoors by a {colour} wall"),
    "brick wall": ("in front of a brick wall", "by a brick wall"),
    "tiled wall": ("in front of a {colour} tiled wall", "by a {colour} tiled wall"),
    "park": ("in a park", "outdoors in a park"),
    "beach": ("on a beach", "at the beach"),
}
_FRAMING = {
    "full": ("full-body photo", "full-length photo"),
    "three-quarter": ("three-quarter-length photo", "photo from the knees up"),
    "half": ("half-length photo", "photo from the waist up"),
    "portrait": ("portrait", "head-and-shoulders portrait"),
}


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _garment(name: str, colour: str, pattern: str, second: str) -> str:
    if pattern == "plain":
        return f"{colour} {name}"
    joined = {"striped": "striped", "checked": "checked", "dotted": "polka-dot"}[pattern]
    return f"{colour} and {second} {joined} {name}"


def clothes_words(outfit: Outfit, *, bottom: bool, shoes: bool) -> str:
    """The outfit as a phrase, as far down as the photo shows it."""
    top = outfit.top
    first = _garment(top.name, top.colour, top.pattern, top.second)
    sleeves = {"sleeveless": "", "short": "short-sleeved ", "elbow-length": "elbow-sleeved ", "long": "long-sleeved "}
    if top.name in ("T-shirt", "shirt", "dress"):
        first = sleeves[top.length_name] + first
    words = [_article(first)]
    low = outfit.bottom
    if bottom and top.name != "dress":
        piece = _garment(low.name, low.colour, low.pattern, low.second)
        words.append(_article(piece) if low.name == "skirt" else piece)
    if shoes:
        words.append(f"{outfit.shoe_colour} {outfit.shoes}")
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]


def write_caption(
    rng: np.random.Generator,
    outfit: Outfit,
    place: Place,
    pose: str,
    view: str,
    framing: str,
    support: str,
    people: int,
) -> str:
    """One sentence; ``people`` counts everybody in the photo."""
    pick = rng.integers(0, 2, 6)
    wear = clothes_words(outfit, bottom=framing in ("full", "three-quarter"), shoes=framing == "full")
    how = _POSE[pose][pick[0]].format(support=support)
    seen = _VIEW[view][pick[1]]
    where = _PLACE[place.kind][pick[2]].format(colour=place.colour)
    frame = _FRAMING[framing][pick[3]]
    who = "a person" if people == 1 else f"a person beside {'another' if people == 2 else f'{people - 1} others'}"
    worn = ("wearing", "dressed in")[pick[4]]
    orders = (
        f"{_article(frame)} of {who} {worn} {wear}, {how}, {seen}, {where}",
        f"{who} {worn} {wear}, {how} {where}, {seen}, {frame}",
        f"{_article(frame)}, {seen}: {who} {how} {where}, {worn} {wear}",
    )
    text = orders[int(rng.integers(0, len(orders)))]
    return text[0].upper() + text[1:]
