"""Overview: small pictures of many images of a series in one file.

A phone that runs through a series of hundreds of images cannot ask for each of them in time. A sheet holds
two dozen, every tile filled by its image, so that a viewer needs no other word about it. Sheets are made of
the previews that a resting study has, and kept by content; the watermark is laid over a kept sheet for each
visitor.
"""

import hashlib
import io
from collections.abc import Sequence

from PIL import Image

from access.caller import Caller
from archive.lettering import mark_by, watermark_mask
from archive.render import JPEG, Rendering, Viewport, draw_stored
from archive.renditions import previews_of
from archive.retrieve import NotFound, StoredInstance, find_images
from archive.room import Archive
from kernel.errors import CloudfilmError

TILE = 256  # pixels each way; portal/ui/viewer/overview.ts reads them
ACROSS, DOWN = 6, 4
MOST_SHEETS = 4096
QUALITY = 62
SMALL = Rendering(viewport=Viewport(TILE, TILE), media_type=JPEG)


def draw_sheet(
    archive: Archive, caller: Caller, study: str, series: str, sheet: int, watermark: Sequence[str] = ()
) -> bytes:
    """One sheet (from 0) of a series of single frames, as a JPEG. Raises NotFound or Forbidden."""
    if not 0 <= sheet < MOST_SHEETS:
        raise NotFound("The sheet")
    images = find_images(archive, caller, study, series, sheet * ACROSS * DOWN, ACROSS * DOWN)
    if any(stored.number_of_frames != 1 for stored in images):
        raise NotFound("An overview")  # a tile stands for an image; frames have their own rhythm
    names = "".join(stored.sha256.hex() for stored in images)
    key = hashlib.sha256(f"overview 1 {names}".encode()).hexdigest()[:40]
    kept = archive.cache.get(key)
    if kept is None:
        kept = _encoded(_composed(archive, images))
        archive.cache.put(key, kept)
    mask = watermark_mask((TILE, TILE), watermark, archive.settings.font)
    if mask is None:
        return kept
    drawn = Image.open(io.BytesIO(kept))
    drawn.load()
    on_all = Image.new("L", drawn.size)
    for at in range(len(images)):
        on_all.paste(mask, _corner(at))
    return _encoded(mark_by(drawn, on_all))


def _composed(archive: Archive, images: Sequence[StoredInstance]) -> Image.Image:
    previews = previews_of(archive, images)
    tiles = [_tile(archive, stored, previews.get(stored.id)) for stored in images]
    mode = "L" if all(tile.mode == "L" for tile in tiles) else "RGB"
    rows = (len(tiles) + ACROSS - 1) // ACROSS
    sheet = Image.new(mode, (ACROSS * TILE, rows * TILE))
    for at, tile in enumerate(tiles):
        sheet.paste(tile, _corner(at))
    return sheet


def _corner(at: int) -> tuple[int, int]:
    return at % ACROSS * TILE, at // ACROSS * TILE


def _tile(archive: Archive, stored: StoredInstance, preview: bytes | None) -> Image.Image:
    """An image stretched over a tile; black when it cannot be drawn."""
    try:
        if preview is None:
            picture = draw_stored(archive, stored, 1, SMALL)
        else:
            picture = Image.open(io.BytesIO(preview))
            picture.draft(picture.mode, (TILE, TILE))  # decoded at a half or a quarter, where that is enough
    except CloudfilmError:
        return Image.new("L", (TILE, TILE))
    return picture.resize((TILE, TILE), Image.Resampling.BILINEAR)


def _encoded(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
