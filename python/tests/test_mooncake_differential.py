"""What ours does in each case, compared with what was recorded from Mooncake's wheel."""
import json

import pytest

import mooncake_differential as differential

RECORDED = json.loads(differential.RECORDED.read_text())["cases"]
DIFFERENCES = json.loads(differential.DIFFERENCES.read_text())


@pytest.mark.parametrize("case", differential.CASES)
def test_case(case):
    seen, errors = differential.run_case(differential.OURS, case)
    assert "ended" not in seen, errors.decode(errors="replace")
    assert differential.compare(case, seen, RECORDED[case], DIFFERENCES) == []


def test_each_case_was_recorded():
    assert set(RECORDED) == set(differential.CASES)


def test_each_difference_has_a_reason():
    assert [case for case, entry in DIFFERENCES.items()
            if case not in RECORDED or not entry["reason"]] == []
