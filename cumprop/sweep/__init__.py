"""Cells and blocks of truths on workers: resumed, bounded, forecast."""
