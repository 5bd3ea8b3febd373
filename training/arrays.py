"""Types of arrays. Their shapes are said where they are used."""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
"""RGB, 0..255."""
