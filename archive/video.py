"""Video objects, by the host's own ffmpeg where there is one: stills of MPEG streams, MP4 of frames.

No codec is brought along: what plays H.264 is licensed and patented differently from place to place, so the
site decides by installing it (Debian: `apt-get install ffmpeg`). The container image has one of its own: what
is asked of it here is what docker/build_ffmpeg.sh builds.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from kernel.errors import CloudfilmError, Kind

SYNTAXES = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-8](\.1)?")
WITHIN_S = 120


class NoVideo(CloudfilmError):
    """This host cannot make or read video: ffmpeg is not installed, or it did not understand the stream."""

    kind = Kind.NOT_ACCEPTABLE

    def __init__(self) -> None:
        super().__init__("Video cannot be made or read here; install ffmpeg, or ask for a picture.")


def is_video(transfer_syntax_uid: str) -> bool:
    """Whether a transfer syntax is of MPEG-2, MPEG-4 AVC or HEVC."""
    return SYNTAXES.fullmatch(transfer_syntax_uid) is not None


@cache
def ffmpeg() -> str | None:
    """Where ffmpeg is, or None."""
    return shutil.which("ffmpeg")


def still_of_video(stream: bytes, number: int) -> npt.NDArray[np.uint8]:
    """A frame (from 1) of a video stream, as RGB. Raises NoVideo."""
    with tempfile.TemporaryDirectory() as folder:
        source, still = Path(folder, "stream"), Path(folder, "still.png")
        source.write_bytes(stream)
        select = f"select=eq(n\\,{max(1, number) - 1})"
        _run("-i", str(source), "-vf", select, "-frames:v", "1", str(still))
        if not still.exists():
            raise NoVideo
        with Image.open(still) as picture:
            return np.asarray(picture.convert("RGB"))


def mp4_of_stream(stream: bytes) -> bytes:
    """An MPEG stream in an MP4 file, its pictures untouched. Raises NoVideo."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "stream"), Path(folder, "video.mp4")
        source.write_bytes(stream)
        _run("-i", str(source), "-c", "copy", "-movflags", "+faststart", str(target))
        return target.read_bytes()


def mp4_of_pictures(pictures: Iterable[Image.Image], frames_per_s: float) -> bytes:
    """Pictures of one size as an MP4 that every browser plays (H.264, 4:2:0). Raises NoVideo."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "video.mp4")
        arguments = (
            "-f", "image2pipe", "-framerate", f"{frames_per_s:.3f}", "-i", "-", "-an",
            "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-c:v", "libx264",
            "-preset", "veryfast", "-crf", "18", "-movflags", "+faststart", str(target),
        )  # fmt: skip
        _encode(arguments, pictures)
        if not target.exists() or not target.stat().st_size:
            raise NoVideo
        return target.read_bytes()


def _encode(arguments: tuple[str, ...], pictures: Iterable[Image.Image]) -> None:
    program = ffmpeg()
    if program is None:
        raise NoVideo
    with subprocess.Popen(  # noqa: S603 - our own arguments
        [program, "-loglevel", "error", "-y", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            for picture in pictures:
                picture.save(process.stdin, "BMP")
            process.stdin.close()
            process.wait(WITHIN_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            process.kill()
            raise NoVideo from None
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise NoVideo


def _run(*arguments: str) -> None:
    program = ffmpeg()
    if program is None:
        raise NoVideo
    try:
        subprocess.run(  # noqa: S603 - our own arguments
            [program, "-loglevel", "error", "-nostdin", "-y", *arguments],
            check=True, capture_output=True, timeout=WITHIN_S,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise NoVideo from None
