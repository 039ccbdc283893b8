"""What all tests share.

No deadline for property tests, because no test may depend on how busy the machine is. Ctrl-C is heard: a shell that
starts something in the background lets it ignore SIGINT, and so would every process that a test starts.
"""

import signal

import hypothesis

hypothesis.settings.register_profile("bolid", deadline=None)
hypothesis.settings.load_profile("bolid")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
