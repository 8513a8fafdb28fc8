"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# The suite must say the same today and tomorrow: the same examples each time, and no time limit for
# one, since machines stall. `HYPOTHESIS_PROFILE=explore make test` looks further.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
