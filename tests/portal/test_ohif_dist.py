"""Set-up of the viewer: what becomes of the files of the npm package."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from portal.ohif_dist import (
    ViewerNotInstalled,
    install,
    installed_version,
    integrity,
    wanted_version,
)

PUBLIC_PATH = b'__webpack_require__.p = "/";'
BUNDLES = [f"{number}.bundle.{number:016x}.js" for number in range(7)]


def package(path: Path, **changed: bytes) -> Path:
    """An npm archive shaped like the pinned one: eight public paths, a font, a slide viewer."""
    files = dict.fromkeys(BUNDLES, PUBLIC_PATH)
    files["app.bundle.0f6159c501addfe9.js"] = (
        PUBLIC_PATH
        + b"import('/dicom-microscopy-viewer/dicomMicroscopyViewer.min.js')"
        + b"if (element.Value[0].Alphabetic) {"
        + b"let nameToUse = name.Alphabetic ?? name;"
    )
    files["app.bundle.css"] = b"@font-face{src:url(/a34f9d1faa5f3315.woff2)}" * 5
    files["a34f9d1faa5f3315.woff2"] = b"font"
    files["assets/favicon.ico"] = b"icon"
    left_out = ("index.html", "sw.js", "app-config.js", "ort/ort.js", "app.bundle.js.map", "_headers")
    files |= dict.fromkeys(left_out, b"left out") | changed
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_paths_of_the_root_are_moved_below_ohif(tmp_path: Path) -> None:
    install(package(tmp_path / "app.tgz"), tmp_path / "ohif")

    script = gzip.decompress((tmp_path / "ohif/app.bundle.0f6159c501addfe9.js.gz").read_bytes())
    style = gzip.decompress((tmp_path / "ohif/app.bundle.css.gz").read_bytes())

    assert b'__webpack_require__.p = "/ohif/";' in script
    assert b"import('/ohif/dicom-microscopy-viewer/" in script
    assert style.count(b"url(/ohif/a34f9d1faa5f3315.woff2)") == 5


def test_only_what_is_served_is_kept(tmp_path: Path) -> None:
    install(package(tmp_path / "app.tgz"), tmp_path / "ohif")

    kept = {str(path.relative_to(tmp_path / "ohif")) for path in (tmp_path / "ohif").rglob("*.*")}

    assert kept == {
        *(f"{name}.gz" for name in BUNDLES),
        "app.bundle.0f6159c501addfe9.js.gz",
        "app.bundle.css.gz",
        "a34f9d1faa5f3315.woff2",
        "assets/favicon.ico",
        "version.txt",
    }


def test_a_build_that_differs_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "ohif"
    install(package(tmp_path / "app.tgz"), folder)
    other = package(tmp_path / "other.tgz", **{BUNDLES[0]: b'__webpack_require__.p = "/elsewhere/";'})

    with pytest.raises(ViewerNotInstalled, match="7 times in it, not 8"):
        install(other, folder)

    assert installed_version(folder) == wanted_version()
    assert b"/ohif/" in gzip.decompress((folder / f"{BUNDLES[0]}.gz").read_bytes())


def test_paths_that_lead_out_of_the_folder_are_not_written(tmp_path: Path) -> None:
    install(package(tmp_path / "app.tgz", **{"../../../escaped.txt": b"out"}), tmp_path / "deep" / "ohif")

    assert not list(tmp_path.rglob("escaped.txt"))


def test_a_folder_without_an_installation_has_no_version(tmp_path: Path) -> None:
    assert installed_version(tmp_path) == ""


def test_an_archive_is_known_by_its_npm_digest(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")

    assert integrity(path) == (
        "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw=="
    )
