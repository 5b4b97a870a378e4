"""A bounded round of tests/reliability/disk_faults.py: a disk that fails during a whole run."""

from reliability.disk_faults import FAULTS, places, worst


def test_a_run_survives_a_failing_disk(tmp_path) -> None:
    """Each kind of fault at its own part of a run; the script tries them at every call."""
    wrong, tried, calls = worst(tmp_path, 3, "max_steps=2", "max_completion_length=4")
    assert wrong == []
    assert tried == 3
    assert calls > 50


def test_faults_are_spread_over_the_calls() -> None:
    few = places(100, 6)
    assert [number for number, _ in few] == [9, 26, 42, 59, 76, 92]
    assert [fault for _, fault in few] == [*FAULTS, *FAULTS]
    assert len(set(places(10, 0))) == 30
