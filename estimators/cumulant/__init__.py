"""Cumulant propagation."""
