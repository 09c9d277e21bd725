"""Tests of the drivers. What several of them use says as much as they do when it fails."""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in ("scenario", "scenario_steps", "memory_worlds")))
