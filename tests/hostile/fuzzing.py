"""How hard the property tests try: quickly and always the same, or as hard as FUZZ_EXAMPLES says, and at random."""

import os

from hypothesis import HealthCheck, settings

VARIABLE = "FUZZ_EXAMPLES"

fuzz = settings(
    max_examples=int(os.environ.get(VARIABLE, "150")),
    derandomize=VARIABLE not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
