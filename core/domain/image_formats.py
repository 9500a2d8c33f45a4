"""The accepted image formats: how each is recognised by its first bytes, and its usual file names."""

from collections.abc import Mapping

HEAD_BYTES = 256
"""The number of a file's first bytes that suffices for everything here."""

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp"),
    "WEBP": (".webp",),
    "HEIF": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
"""Pillow's name of the format -> the suffixes of its files, the most usual first."""
ACCEPTED = "PNG, JPEG, WebP, HEIC, AVIF, BMP, TIFF or GIF"

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
)
# Other formats, and other files that are often mistaken for images.
_FOREIGN = (
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop document"),
    (b"gimp xcf", "a GIMP document"),
    (b"\0\0\1\0", "an icon"),
    (b"icns", "an icon"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"qoif", "a QOI image"),
    (b"DDS ", "a DDS texture"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PK\3\4", "a ZIP archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"\0\x05\x16\x07", "a macOS metadata file for an image (AppleDouble)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the image itself"),
)


def recognise_format(head: bytes) -> str | None:
    """Pillow's name of an accepted format, by the file's first HEAD_BYTES; None for anything else.

    HEIF and AVIF are distinguished by the brands in the ``ftyp`` box (ISO/IEC 23008-12, AV1 Image File Format 6).
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    brands = _read_brands(head)
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


def _read_brands(head: bytes) -> frozenset[bytes]:
    """The major brand and the compatible ones; none if the file does not begin with an ``ftyp`` box."""
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return frozenset([head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))])


def describe_unaccepted(head: bytes) -> str:
    """For a file that ``recognise_format`` does not know: its probable content, and what to do."""
    if not head:
        return "It is empty: export or upload it again."
    return (
        f"It is {_name_content(head)}. Export it as PNG or JPEG; WebP, HEIC, AVIF, BMP, TIFF and GIF are accepted too, "
        "whatever their names."
    )


def _name_content(head: bytes) -> str:
    for signature, name in _FOREIGN:
        if head.startswith(signature):
            return f"{name}, which is not supported"
    if head[4:8] == b"ftyp":
        return "a video, or an image in an unsupported format"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml")) or (text.startswith(b"<!doctype") and b"svg" in text):
        return "an SVG drawing or another XML document, which is not supported"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page, not an image"
    return "not an image, or one in an unsupported format"
