"""The last lines of `mien retrain` and `mien report` name the rules that refused."""

from mien.cli.retraining import broken_rules
from mien.retraining.outcome import Outcome

RULES = [{"rule": "floor", "passed": True}, {"rule": "better", "passed": False}, {"rule": "recall", "passed": False}]


def test_a_refusal_names_its_rules_and_no_other_outcome_does() -> None:
    assert broken_rules(Outcome("refused", "So.", {"rules": RULES})) == ": better, recall"
    assert broken_rules(Outcome("promoted", "So.", {"rules": RULES[:1]})) == ""
    assert broken_rules(Outcome("stopped", "So.")) == ""
