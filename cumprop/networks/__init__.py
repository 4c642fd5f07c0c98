"""Networks: their definition, transformations, random ones, and readers of files."""

from cumprop.networks.covariances import is_diagonal
from cumprop.networks.mlp import MLP
from cumprop.networks.random import he, random_mlp
from cumprop.networks.shape import Shape

__all__ = ["MLP", "Shape", "he", "is_diagonal", "random_mlp"]
