"""Figures: one module per figure, all reading rows only."""
