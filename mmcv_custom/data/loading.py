"""Image loading with one-sentence errors for files that cannot be read.

Shapes: images (h, w, 3) uint8, BGR.
"""

from mmcv.transforms import TRANSFORMS
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile

from ..errors import DataError
from .image_files import reason_unread
from .misread_files import read_misread


# Under MMCV's own name, because the inferencers of mmdet, mmseg and mmpretrain look for the loader by that name; and
# under its former one, which configs may hold.
@TRANSFORMS.register_module(name=["LoadImageFromFile", "LoadImage"], force=True)
class LoadImageFromFile(_LoadImageFromFile):
    """MMCV's loader, with errors that name the file and what to do.

    Grey, 4-channel and 16-bit files are converted to 8-bit BGR, without their opacity.
    """

    def transform(self, results: dict) -> dict:
        """Read ``results['img_path']`` into ``results['img']``.

        Raises:
            DataError: the file is missing or broken, or has another size than its annotation file says.
        """
        path = results["img_path"]
        try:
            loaded = super().transform(results)
            pixels = read_misread(path)
            if pixels is not None and loaded is not None:
                loaded["img"], loaded["img_shape"], loaded["ori_shape"] = pixels, pixels.shape[:2], pixels.shape[:2]
        except FileNotFoundError:
            raise DataError(f"image {path} does not exist: check data_root and data_prefix") from None
        except Exception as error:  # each decoder raises its own exceptions
            why = reason_unread(path) or " ".join(str(error).split())
            raise DataError(f"image {path} cannot be read ({why}): save it again or take it out") from None
        if loaded is None or loaded["img"] is None:
            raise DataError(f"image {path} is empty or broken: save it again or take it out")
        said, found = (results.get("width"), results.get("height")), loaded["img"].shape[1::-1]
        if None not in said and tuple(said) != tuple(found):  # annotation files in COCO format say it
            raise DataError(
                f"image {path} is {found[0]} x {found[1]} and its annotation file says {said[0]} x {said[1]}: its "
                "boxes would lie elsewhere, use the images that the file was made for"
            )
        return loaded
