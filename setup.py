"""The packages of the wheel; everything else is in pyproject.toml.

The folder `estimators/` is the package `cumprop.estimators`, which setuptools cannot be told there.
"""

from setuptools import find_packages, setup

estimators = [f"cumprop.{package}" for package in find_packages(include=["estimators*"])]
setup(packages=find_packages(include=["cumprop*"]) + estimators)
