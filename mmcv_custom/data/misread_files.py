"""Image files that OpenCV, by which MMCV loads, reads otherwise than they are meant.

Shapes: images (h, w, 3) uint8, BGR.
"""

from __future__ import annotations

import os

import numpy as np

_TIFF = (b"II*\0", b"MM\0*")
_PNG = b"\x89PNG\r\n\x1a\n"


def read_misread(path: str | os.PathLike) -> np.ndarray | None:
    """Return the pixels of a local file that OpenCV reads wrongly, and None for all others.

    Of a TIFF with transparency it darkens the colours by their opacity, where for other formats it drops that. An
    animated PNG it does not turn by the EXIF orientation, where it turns others.

    Raises:
        OSError: the file is broken.
    """
    if not os.path.isfile(path):  # of another backend
        return None
    with open(path, "rb") as file:
        magic = file.read(8)
        if not (magic[:4] in _TIFF or magic == _PNG and _is_animated(file)):
            return None
        exif = late_exif(file) if magic == _PNG else b""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        if magic == _PNG:
            image.info.setdefault("exif", exif)
            image = ImageOps.exif_transpose(image)
        elif image.mode not in ("RGBA", "LA", "PA"):
            return None
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])


def png_chunks(file):
    """Yield the name and the length of each chunk of an open PNG file, which is then at the chunk's content."""
    file.seek(len(_PNG))
    while len(head := file.read(8)) == 8:
        length, start = int.from_bytes(head[:4], "big"), file.tell()
        yield head[4:], length
        file.seek(start + length + 4)


def late_exif(file) -> bytes:
    """Return the EXIF block of an open PNG file, which may stand behind the pixels; Pillow's header ends before."""
    return next((file.read(length) for name, length in png_chunks(file) if name == b"eXIf"), b"")


def _is_animated(file) -> bool:
    return next((name for name, _ in png_chunks(file) if name in (b"acTL", b"IDAT")), None) == b"acTL"
