"""Gradient descent on estimates."""
