"""What stands beside the code: it is in step with the code, and what is installed is whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from workbench.cli.main import app
from workbench.policy import policy_schema

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "workbench"
SCRIPTS = Path(sysconfig.get_path("scripts"))
PAGES = ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "datasets/README.md", "reports/README.md")


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """What a program prints; it has to end well."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


# Generated and locked files


def test_environment_yml_is_what_run_fix_writes() -> None:
    written = run("bash", "-c", "source ./run help >/dev/null; environment")
    assert written.startswith("# Generated from pyproject.toml")
    assert (ROOT / "environment.yml").read_text() == written


def test_the_lock_names_no_registry_and_hashes_every_requirement() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|^\s*--(index|extra-index|find-links|trusted)|^-i", text, re.MULTILINE)
    requirements = re.findall(r"^([a-z0-9._-]+)==(\S+)([^\n]*\\\n(?:    [^\n]*\n?)*)", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(lines) == len(requirements) > 50
    for name, _, rest in requirements:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), name
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*declared["project"]["dependencies"], *declared["dependency-groups"]["dev"]]
    assert {re.split(r"[^a-z0-9-]", name)[0] for name in wanted} <= {name for name, _, _ in requirements}


# Documents


def test_the_module_table_lists_the_tree() -> None:
    listed = re.findall(r"^\| `([a-z_/]+\.py)` \| .+ \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    found = [path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(found) == sorted(listed)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_on_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    script = (ROOT / "run").read_text()
    offered = set(re.findall(r"^\./run ([a-z]+)", script, re.MULTILINE))
    assert offered == set(re.findall(r"^  ([a-z]+)\)", script, re.MULTILINE))
    assert set(re.findall(r"\./run ([a-z]+)", text)) <= offered
    commands = {entry.name for entry in (*app.registered_commands, *app.registered_groups)}
    assert set(re.findall(r"(?:bin/|`)workbench ([a-z]+(?:-[a-z]+)*)", text)) <= commands


def test_the_readme_names_the_two_commands() -> None:
    assert {"demo", "test"} <= set(re.findall(r"^\./run ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))


def test_files_that_a_page_points_to_are_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_an_unknown_command_of_run_lists_the_known_ones() -> None:
    done = subprocess.run([ROOT / "run", "nonsense"], capture_output=True, text=True, check=False)
    assert (2, "") == (done.returncode, done.stdout)
    assert "./run demo" in done.stderr


# The package


def test_the_package_loads_the_standard_library_alone() -> None:
    program = """
import json, sys
before = set(sys.modules)
import workbench
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
    loaded = set(json.loads(run(sys.executable, "-c", program)))
    assert {"workbench"} == loaded - set(sys.stdlib_module_names)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree."""
    out = tmp_path_factory.mktemp("dist")
    here = ["--no-build-isolation", "--python", sys.executable] if find_spec("hatchling") else []
    run(SCRIPTS / "uv", "build", "--quiet", "--wheel", *here, "--out-dir", out)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {f"workbench/{path.relative_to(SOURCE).as_posix()}" for path in files} == names


def test_the_installed_wheel_works_outside_the_tree(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    run(SCRIPTS / "uv", "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", target, wheel)
    program = """
import importlib.resources, json, workbench
found = importlib.resources.files("workbench")
places = ("policy.schema.json", "py.typed", "report/templates/report.html.j2", "report/templates/style.html.j2")
print(json.dumps([workbench.__file__, *(found.joinpath(place).read_text() for place in places)]))
"""
    outside = partial(run, cwd=tmp_path, PYTHONPATH=str(target))
    place, schema, typed, page, style = json.loads(outside(sys.executable, "-c", program))
    assert str(target / "workbench" / "__init__.py") == place
    assert policy_schema() == json.loads(schema)
    assert "" == typed
    assert "<!doctype html>" in page
    assert "<style>" in style
    assert "Usage: workbench" in outside(target / "bin" / "workbench", "--help")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"workbench {version}\n" == outside(target / "bin" / "workbench", "--version")


@pytest.mark.parametrize(
    ("approach", "place"),
    [
        ("rekognition-labels", "rekognition:DetectionOptions"),
        ("rekognition-moderation", "rekognition_moderation:ModerationOptions"),
        ("rekognition-custom", "rekognition_custom:RekognitionCustomOptions"),
        ("claude", "claude_options:ClaudeOptions"),
        ("google-vision", "google_vision:VisionOptions"),
    ],
)
def test_every_field_of_a_service_stands_in_the_table_of_approaches(approach: str, place: str) -> None:
    text = (ROOT / "datasets/README.md").read_text()
    rows = {row[0]: row[1] for row in re.findall(r"^\| `([a-z-]+)` \| .* \| (.*) \|$", text, re.MULTILINE)}
    told = rows[approach].replace("the same, ", rows["rekognition-labels"])
    module, _, name = place.partition(":")
    fields = getattr(import_module(f"workbench.approaches.{module}"), name).model_fields
    assert set(fields) == set(re.findall(r"`([a-z_0-9]+)`", told))


def test_workers_are_told_which_tests_belong_together(request: pytest.FixtureRequest) -> None:
    """The suffix is what pytest-xdist shares by; without it each worker repeats what a module does once."""
    shared = getattr(request.config.option, "loadgroup", False)
    assert shared == request.node.nodeid.endswith("@test_project.py")
