from __future__ import annotations

import math
from typing import Any

import pytest

from coderl_trainer.errors import DatumError
from coderl_trainer.types import Datum, Sample, StopReason


def datum(**changes: Any) -> Datum:
    fields: dict[str, Any] = {
        "input_tokens": (1, 2, 3),
        "target_tokens": (2, 3, 4),
        "behaviour_logprobs": (0.0, -0.5, -1.0),
        "advantages": (0.0, 1.0, 1.0),
        "mask": (0.0, 1.0, 1.0),
    }
    return Datum(**{**fields, **changes})


def test_a_consistent_row_is_taken() -> None:
    assert datum(weight=0.5).weight == 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"target_tokens": (2, 3)},
        {"behaviour_logprobs": (0.0, 0.5, -1.0)},
        {"behaviour_logprobs": (0.0, math.nan, -1.0)},
        {"advantages": (0.0, math.inf, 1.0)},
        {"mask": (0.0, 0.5, 1.0)},
        {"weight": -1.0},
        {"weight": math.nan},
    ],
)
def test_an_inconsistent_row_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DatumError):
        datum(**changes)


def test_a_sample_has_a_logprob_per_token() -> None:
    with pytest.raises(DatumError, match="2 tokens but 1"):
        Sample((1, 2), (-0.1,), StopReason.STOP, 0)
    with pytest.raises(DatumError):
        Sample((1,), (0.1,), StopReason.STOP, 0)
