"""Media types of frames by transfer syntax (PS3.18 tables 8.7.3-2 to 8.7.3-5)."""

from collections.abc import Iterator

from dicomweb.media_types import OCTETS, Representation

MEDIA_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.100": "video/mpeg2",
    "1.2.840.10008.1.2.4.100.1": "video/mpeg2",
    "1.2.840.10008.1.2.4.101": "video/mpeg2",
    "1.2.840.10008.1.2.4.101.1": "video/mpeg2",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.102.1": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.103.1": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.104.1": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.105.1": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
    "1.2.840.10008.1.2.4.106.1": "video/mp4",
    "1.2.840.10008.1.2.4.107": "video/H265",
    "1.2.840.10008.1.2.4.108": "video/H265",
}


def frame_media_type(transfer_syntax_uid: str) -> str:
    """The media type of a frame as stored in this transfer syntax; uncompressed ones are octets."""
    return MEDIA_TYPES.get(transfer_syntax_uid, OCTETS)


DEFAULT_SYNTAX = {  # of each media type when none is named (PS3.18 table 8.7.3-5)
    OCTETS: "1.2.840.10008.1.2.1",
    "image/jpeg": "1.2.840.10008.1.2.4.70",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jphc": "1.2.840.10008.1.2.4.201",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/x-dicom-rle": "1.2.840.10008.1.2.5",  # as earlier editions had it
    "image/x-jls": "1.2.840.10008.1.2.4.80",
}

RETIRED_NAMES = {
    "image/x-dicom-rle": "image/dicom-rle",
    "image/x-jls": "image/jls",
    "image/x-jp2": "image/jp2",
}


def wanted_syntaxes(form: Representation, multipart: bool) -> Iterator[str]:
    """The transfer syntaxes that a form asks for: of its media type, or of each that a wildcard covers. None
    when a media type and its parameter disagree."""
    named = DEFAULT_SYNTAX if form.media_type.endswith("/*") else (form.media_type,)
    for media_type in named:
        syntax = form.transfer_syntax or DEFAULT_SYNTAX.get(media_type, "")
        agree = frame_media_type(syntax) == RETIRED_NAMES.get(media_type, media_type)
        if syntax and agree and form.takes(multipart, media_type, syntax):
            yield syntax
