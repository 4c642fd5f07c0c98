"""Rows on disk, and what they are worth."""
