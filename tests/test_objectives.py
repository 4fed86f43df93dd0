"""Objectives: the faithfulness that a sweep may ask for."""

import pytest

from orchestrator.sweep import SweepSpec
from trainers.spec import SpecError

SWEEP = {
    "name": "q",
    "question": "is it?",
    "base": {
        "model": {"builtin": "tracr-reverse"},
        "task": {"name": "tracr"},
        "method": {"name": "edge_pruning", "target_sparsity": 0.9},
    },
}
BOTH = {"model.builtin": ["tracr-reverse", "tracr-xproportion"]}


def trials(faithfulness: str, vary: object = None) -> int:
    asked = {"vary": vary, "objectives": {"faithfulness": faithfulness}}
    return len(SweepSpec.parse(SWEEP | asked, "q").trials())


def test_faithfulness_may_be_a_divergence_that_every_trial_measures() -> None:
    assert trials("divergence") == trials("kl") == 1
    assert trials("divergence", BOTH) == 2, "each task has its own"


@pytest.mark.parametrize(
    ("faithfulness", "vary", "allowed"),
    [
        ("kll", None, "divergence, kl"),
        ("accuracy", None, "divergence, kl"),
        ("squared_error", None, "divergence, kl"),
        ("kl", BOTH, "divergence"),
    ],
)
def test_no_other_word_is_taken(faithfulness: str, vary: object, allowed: str) -> None:
    with pytest.raises(SpecError) as caught:
        trials(faithfulness, vary)
    assert f"objectives.faithfulness: found '{faithfulness}'; allowed: {allowed} (" in str(caught.value)
