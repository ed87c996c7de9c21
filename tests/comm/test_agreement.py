"""Comparing what the ranks report."""

from __future__ import annotations

from allgrad.comm import agreement


def test_compare_names_properties_and_ranks() -> None:
    everyone = [{"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "1"}, {"a": "1", "b": "x"}]
    assert agreement.compare(everyone) == {"b": "  b: 'x' on ranks 0, 3; 'y' on rank 1; missing on rank 2"}
    assert agreement.format_ranks([0, 1, 2, 4, 5, 9]) == "ranks 0-2, 4, 5, 9"
