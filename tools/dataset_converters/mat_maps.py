"""What the converters of COCO-Stuff-10k and Pascal-Context share, whose label maps are MATLAB files."""

import zlib

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from whole_folder import check_size


def read_map(path, field, image):
    """The label map (h, w) uint16 that ``field`` of the MATLAB file ``path`` holds for ``image``.

    Raises ValueError when it cannot be read, or is no such map of the image's size."""
    try:
        labels = loadmat(path, variable_names=[field]).get(field)
    except (MatReadError, NotImplementedError, OSError, TypeError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a MATLAB file ({error}); unpack the data set again") from None
    if labels is None:
        raise ValueError(f"{path} has no field {field}; give the folder that the data set was unpacked to")
    with np.errstate(invalid="ignore"):  # of what is no number
        whole = labels.astype(np.uint16) if labels.dtype.kind in "uif" else None
    if whole is None or (whole != labels).any():
        raise ValueError(f"{field} of {path} holds something else than numbers of labels; unpack the data set again")
    check_size(labels, f"{field} of {path}", image)
    return whole


def read_names(path):
    """The names that a file lists, one a line. Raises ValueError when it is missing or empty."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the folder that the data set was unpacked to")
    names = path.read_text().split()
    if not names:
        raise ValueError(f"{path} is empty; unpack the data set again")
    return names
