"""Made-up names, different for every identity."""

import numpy as np

_FIRST = (
    "Al",
    "Be",
    "Cor",
    "Da",
    "El",
    "Fa",
    "Gil",
    "Han",
    "Is",
    "Jo",
    "Ka",
    "Lu",
    "Mi",
    "Nor",
    "Or",
    "Pe",
    "Ros",
    "Sa",
)
_END = ("an", "bel", "dia", "en", "ia", "ino", "ka", "la", "lin", "mar", "na", "rin", "ro", "sa", "ta", "vin")
_LAST = ("Ash", "Birk", "Clay", "Dorn", "Elm", "Fen", "Glen", "Holm", "Iver", "Kest", "Lark", "Mar", "Nord", "Oak")
_TAIL = ("berg", "by", "court", "dale", "ford", "ham", "ley", "mere", "son", "stad", "ton", "well", "wick", "worth")


def made_up_name(seed: int, identity: int) -> str:
    """A first and a last name; the world's seed mixes the order, so that no two of its identities share one.

    The 56 448 combinations are gone through in a fixed mixed order; beyond them a number is added.
    """
    count = len(_FIRST) * len(_END) * len(_LAST) * len(_TAIL)
    start = int(np.random.SeedSequence((seed, 6)).generate_state(1)[0]) % count
    round_, number = divmod(identity, count)
    at = (start + number * 25_013) % count  # 25 013 is prime and no factor of the count: a full cycle
    at, a = divmod(at, len(_FIRST))
    at, b = divmod(at, len(_END))
    d, c = divmod(at, len(_LAST))
    name = f"{_FIRST[a]}{_END[b]} {_LAST[c]}{_TAIL[d]}"
    return name if round_ == 0 else f"{name} {round_ + 1}"
