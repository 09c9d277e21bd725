"""Fresh seeds for the simulation, and profiles of hypothesis.

`quick` has the same examples in every run; `long`, by HYPOTHESIS_PROFILE=long, looks for new ones for as long as
EXAMPLES (for each test) says. What it finds belongs into the corpus, or into a test that says what was wrong; the seed
is printed.
"""

import os
import random

from hypothesis import settings

FIRST_FRESH_SEED = int(os.environ.get("FIRST_FRESH_SEED") or random.SystemRandom().randrange(10**9))
"""test_simulation.py runs those from here on; FIRST_FRESH_SEED=N runs them again."""


def pytest_report_header() -> str:
    return f"simulation: fresh seeds from {FIRST_FRESH_SEED} (FIRST_FRESH_SEED={FIRST_FRESH_SEED})"


settings.register_profile("quick", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile(
    "long", deadline=None, database=None, print_blob=True, max_examples=int(os.environ.get("EXAMPLES", "2000"))
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
