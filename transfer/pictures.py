"""Pictures from outside, decoded within bounds: at the door, and again where a pipeline begins."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 1 << 26  # whatever a door lets in
MOST_BYTES = 64 << 20


class BadMedia(ValueError):
    """A file that is not taken. The message is for whoever sent it."""


class BadPicture(BadMedia):
    """It is none that is taken."""


def decode(data: bytes, *, mask: bool = False, most_pixels: int = MOST_PIXELS) -> "Image":
    """RGB, turned as its EXIF data says, as `diffusers.utils.load_image` gives it. A mask is L: 255
    where the picture is to change, which is where the file is transparent, if it is anywhere, and
    else where it is white.

    The size is checked before a pixel is decoded. Raises `BadPicture`.
    """
    from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

    if len(data) > MOST_BYTES:
        raise BadPicture(f"{len(data)} bytes; at most {MOST_BYTES} are taken")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            width, height = file.size
            if width * height > most_pixels:
                raise BadPicture(f"it has {width}x{height} pixels; {most_pixels} at most are taken")
            # phones write a picture and its depth, or its brightness, into one JPEG, an MPO
            if getattr(file, "n_frames", 1) > 1 and file.format != "MPO":
                raise BadPicture("it is animated")
            file.load()
            picture = ImageOps.exif_transpose(file)
            if not mask:
                return picture.convert("RGB")
            if "A" in picture.getbands() or "transparency" in picture.info:
                return ImageChops.invert(picture.convert("RGBA").getchannel("A"))
            return picture.convert("L")
    except BadPicture:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        message = f"it has far more pixels than are taken, which is {most_pixels} at most"
        raise BadPicture(message) from None
    except UnidentifiedImageError:
        raise BadPicture(f"it is no picture of {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders raise whatever they like at bytes that are none
        raise BadPicture(f"it cannot be decoded ({type(error).__name__}: {error})") from error
