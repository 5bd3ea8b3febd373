"""Labelling: everything that the function's package contains, and nothing else."""
