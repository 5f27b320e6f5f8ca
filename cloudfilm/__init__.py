"""cloudfilm: the imaging hub. This package is the one place where things are built and started."""

__version__ = "0.1.0"
