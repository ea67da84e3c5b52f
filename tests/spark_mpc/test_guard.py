"""`dp` and `lake` are generic names: importing spark_mpc makes sure that ours are meant, also from a zip."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import spark_mpc

pytestmark = pytest.mark.slow

ROOT = Path(spark_mpc.__file__).parent.parent
PACKAGES = ("dp", "lake", "spark_mpc")
LOCATIONS = "import spark_mpc, dp, lake; print(spark_mpc.__file__, dp.__file__, lake.__file__)"


def python(code: str, *first: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter of this environment, with some folders or zips first on its path."""
    environment = {"PYTHONPATH": ":".join(map(str, first)), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three packages in a zip, as for `spark-submit --py-files`: no metadata of a distribution with them."""
    path = tmp_path_factory.mktemp("zip") / "spark_mpc.zip"
    with zipfile.ZipFile(path, "w") as made:
        for package in PACKAGES:
            for file in sorted((ROOT / package).rglob("*.py")):
                made.write(file, file.relative_to(ROOT))
    return path


def test_works_as_installed(tmp_path: Path) -> None:
    done = python(LOCATIONS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(Path(location).parent.parent == ROOT for location in done.stdout.split())


def test_works_from_a_zip_and_uses_what_is_in_it(archive: Path, tmp_path: Path) -> None:
    done = python(LOCATIONS, archive, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    locations = done.stdout.split()
    assert len(locations) == 3
    assert all(location.startswith(f"{archive}/") for location in locations)


@pytest.mark.parametrize("name", ["dp", "lake"])
@pytest.mark.parametrize("form", ["package", "module", "namespace"])
def test_refuses_an_impostor_before_any_of_its_code_runs(name: str, form: str, tmp_path: Path) -> None:
    loot = tmp_path / "it ran"
    code = f"from pathlib import Path; Path({str(loot)!r}).touch()\n"
    if form == "package":
        (tmp_path / "evil" / name).mkdir(parents=True)
        (tmp_path / "evil" / name / "__init__.py").write_text(code)
    elif form == "module":
        (tmp_path / "evil").mkdir()
        (tmp_path / "evil" / f"{name}.py").write_text(code)
    else:
        (tmp_path / "evil" / name).mkdir(parents=True)  # a folder without __init__.py is no match for a real package
    done = python("import spark_mpc", tmp_path / "evil", cwd=tmp_path)
    if form == "namespace":
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode != 0
    assert f"package '{name}' is at" in done.stderr
    assert "remove the other one from sys.path" in done.stderr
    assert not loot.exists()


def test_refuses_a_foreign_package_that_was_imported_before(tmp_path: Path) -> None:
    (tmp_path / "evil" / "lake").mkdir(parents=True)
    (tmp_path / "evil" / "lake" / "__init__.py").write_text("")
    code = f"import sys, lake; sys.path.remove({str(tmp_path / 'evil')!r}); import spark_mpc"
    done = python(code, tmp_path / "evil", cwd=tmp_path)
    assert done.returncode != 0
    assert "package 'lake' is at" in done.stderr


def test_a_zip_does_not_mix_with_an_installed_package(archive: Path, tmp_path: Path) -> None:
    """Half of it from elsewhere is refused, even if that half is genuine: versions could differ."""
    part = tmp_path / "part.zip"
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(part, "w") as made:
        for entry in whole.namelist():
            if entry.startswith("dp/"):
                made.writestr(entry, whole.read(entry))
    done = python("import spark_mpc", part, cwd=tmp_path)
    assert done.returncode != 0
    assert "package 'dp' is at" in done.stderr
