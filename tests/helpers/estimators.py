"""Estimators that several tests run, as names and parameters."""

CUMULANT = [
    ("cumulant", {"order": 1}),
    ("cumulant", {"order": 2}),
    ("cumulant", {"order": 3}),
    ("cumulant", {"order": 4}),
    ("cumulant", {"order": 3, "kind": "tree"}),
]
"""Every order, and trees."""
