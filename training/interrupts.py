"""Ctrl-C during training: finish the update, save, then stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from .. import progress


class Stop:
    """Whether the user asked the run to end."""

    asked = False


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM of the block into `asked`; a second one interrupts at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        progress.say("stopping: saving a checkpoint after this step (once more to stop at once)")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
