"""Networks: their definition, transformations, random ones, and readers of files."""

from cumprop.networks.mlp import MLP
from cumprop.networks.random import he, random_mlp
from cumprop.networks.shape import Shape
from cumprop.networks.unfolded import gaussian_parts

__all__ = ["MLP", "Shape", "gaussian_parts", "he", "random_mlp"]
