"""Gradient descent on estimated losses (distillation)."""
