"""Shared functions of the converters of COCO-Stuff-10k and Pascal-Context, whose label maps are MATLAB files."""

import zlib

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from whole_folder import check_size


def read_map(path, field, image):
    """Return the label map (h, w) uint16 in ``field`` of the MATLAB file ``path``.

    Raises:
        ValueError: it cannot be read, or is not a label map of the size of the image at the path ``image``.
    """
    try:
        labels = loadmat(path, variable_names=[field]).get(field)
    except (MatReadError, NotImplementedError, OSError, TypeError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a MATLAB file ({error}); unpack the data set again") from None
    if labels is None:
        raise ValueError(f"{path} has no field {field}; give the folder that the data set was unpacked to")
    with np.errstate(invalid="ignore"):  # NaN and infinity
        numbers = labels.astype(np.uint16) if labels.dtype.kind in "uif" else None
    if numbers is None or (numbers != labels).any():
        raise ValueError(f"{field} of {path} holds something other than label numbers; unpack the data set again")
    check_size(labels, f"{field} of {path}", image)
    return numbers


def read_names(path):
    """Return the names that a file lists, one per line; raise ValueError if it is missing or empty."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the folder that the data set was unpacked to")
    names = path.read_text().split()
    if not names:
        raise ValueError(f"{path} is empty; unpack the data set again")
    return names
