"""Set-up of the pages' scripts: `portal/ui` (TypeScript) becomes the folder that `portal.ui_files` serves.

Run at set-up (`python -m portal.ui_dist`); does nothing when the sources have not changed since. npm installs
exactly what the lock file names; where npm is missing, the Node that PyPI ships is used, as for the viewer.
"""

import gzip
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from portal.ohif_dist import COMPRESSED, ViewerNotInstalled, find_npm, run

SOURCES = Path(__file__).parent / "ui"
FOLDER = Path(__file__).parent / "static" / "ui"
STAMP = "version.txt"
LEAST_NODE = 20  # what Vite takes
NOT_SOURCES = frozenset({"node_modules", "dist"})


def main() -> int:
    """Build unless what is there is of these sources; exits 1 when it cannot be."""
    wanted = source_digest()
    stamp = FOLDER / STAMP
    if stamp.is_file() and stamp.read_text().strip() == wanted:
        return 0
    print("Building the patients' pages ...", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="cloudfilm-ui-") as scratch:
            build(Path(scratch))
            keep(Path(scratch) / "ui" / "dist", wanted)
    except ViewerNotInstalled as missing:
        print(
            f"The scripts of the patients' pages are not built: {missing}\n"
            "Everything else works. Install Node.js 20 or newer with npm, or give this machine "
            "access to a package registry, then start again.",
            file=sys.stderr,
        )
        return 1
    return 0


def source_digest() -> str:
    """A digest over every source file's name and content."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        inside = path.relative_to(SOURCES)
        if path.is_file() and not NOT_SOURCES & set(inside.parts):
            digest.update(f"{inside.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def build(scratch: Path) -> None:
    """Install and build in a folder of its own, so that the source folder stays as it is."""
    npm = find_npm(scratch, LEAST_NODE)
    folder = scratch / "ui"
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    node = Path(npm[0]).parent
    os.environ["PATH"] = f"{node}{os.pathsep}{os.environ.get('PATH', '')}"  # for what npm starts
    run([*npm, "ci", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"])
    run([*npm, "run", "build", "--prefix", str(folder), "--silent"])


def keep(built: Path, wanted: str) -> None:
    """Compress what was built and put it in place when it is whole."""
    making = FOLDER.with_name("ui.new")
    shutil.rmtree(making, ignore_errors=True)
    for path in sorted(built.rglob("*")):
        if path.is_file():
            target = making / path.relative_to(built)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name == "manifest.json":
                (making / "manifest.json").write_bytes(path.read_bytes())
            else:
                content = gzip.compress(path.read_bytes(), 9 if path.suffix in COMPRESSED else 1, mtime=0)
                target.with_name(target.name + ".gz").write_bytes(content)
    (making / STAMP).write_text(wanted)
    shutil.rmtree(FOLDER, ignore_errors=True)
    making.replace(FOLDER)


if __name__ == "__main__":
    sys.exit(main())
