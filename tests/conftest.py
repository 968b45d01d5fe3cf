"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# No test asserts how long something takes, so neither does Hypothesis; in CI a run can be repeated as it was.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
