"""Trains the small networks of `demo/networks/` from procedural people: `python -m bolid.demo.train pose|face|…`.

Not part of `bolid demo` and not of the tests: an hour of two cores makes each network anew, with the same figures up to
the rounding of the machine.
"""
