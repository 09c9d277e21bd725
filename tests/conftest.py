"""Profiles of hypothesis: `quick`, the same examples in every run, and `long`, by HYPOTHESIS_PROFILE=long.

A long run looks for new examples for as long as EXAMPLES (for each test) says. What it finds belongs into the corpus,
or into a test that says what was wrong; the seed is printed.
"""

import os

from hypothesis import settings

settings.register_profile("quick", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile(
    "long", deadline=None, database=None, print_blob=True, max_examples=int(os.environ.get("EXAMPLES", "2000"))
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
