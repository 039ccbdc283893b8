"""What all tests share: no deadline for property tests, because no test may depend on how busy the machine is."""

import hypothesis

hypothesis.settings.register_profile("bolid", deadline=None)
hypothesis.settings.load_profile("bolid")
