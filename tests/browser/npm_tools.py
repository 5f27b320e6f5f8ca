"""Programs of others, from npm, for tests: installed once into a cache folder, as the lock file says."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from portal.ohif_dist import find_npm

SOURCES = Path(__file__).parent / "npm"
CACHE = Path(__file__).parents[2] / ".cache"


def npm_tools() -> Path:
    """The folder with their node_modules."""
    digest = hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = CACHE / f"npm-tools-{digest}"
    if not (folder / "ready").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(SOURCES, folder)
        npm = find_npm(folder, 20)
        subprocess.run(
            [*npm, "ci", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"], check=True
        )
        (folder / "ready").touch()
    return folder


def run_module(source: str, *arguments: str, timeout: float = 120) -> str:
    """Run a JavaScript module with these tools at hand; returns what it printed."""
    folder = npm_tools()
    npm = find_npm(folder, 20)
    node = npm[0] if len(npm) > 1 else (shutil.which("node") or "node")
    done = subprocess.run(
        [node, "--input-type=module", "--eval", source, *arguments],
        cwd=folder, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
