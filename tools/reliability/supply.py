"""List what the project depends on: known vulnerabilities, licences and a bill of materials of the installed packages.

    make audit                                                # or, with the tools of the audit extra in a Python:
    python tools/reliability/supply.py --audit-python .venv-audit/bin/python --json rows.json

The tools stay out of the environment that they examine. It writes docs/licences.md with names, versions and licences
of all packages that `make setup` installs for a user, as their metadata names them, and, with --sbom, a bill of
materials in CycloneDX's JSON. Where the service with the advisories cannot be reached, the row says so and nothing is
claimed.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rows import write_rows

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.files import write_file
from mmcv_custom.results import row

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/licences.md"
HEAD = """# Licences of the dependencies

Written by `make audit` (`tools/reliability/supply.py`) from the metadata of the installed packages: everything that
`requirements.txt` and the extra `export` name, and what that needs in turn. The project itself is under the Apache
License 2.0.

"""
AUDIT_S = 600  # longest run of a tool
UNREACHABLE = re.compile(
    r"Connection|Max retries|Temporary failure|Name or service|timed out|Proxy|ServiceError|\b40[34]\b"
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audit-python", metavar="PYTHON", help="a Python that has the audit extra (default: none)")
    parser.add_argument("--sbom", metavar="FILE.json", help="write a bill of materials here (needs --audit-python)")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    args = parser.parse_args()
    if args.sbom and not args.audit_python:
        raise ConfigError("--sbom needs --audit-python: a Python with the audit extra, which `make audit` sets up")
    return args


def requirements() -> list[Requirement]:
    """Return the requirements of requirements.txt and of the extra "export" that hold for this Python."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    found = [Requirement(line) for line in lines if line]
    found += [one for one in map(Requirement, metadata.requires("token-pruning") or []) if "export" in str(one.marker)]
    return [one for one in found if one.marker is None or one.marker.evaluate(dict(extra="export"))]


def installed(roots: Iterable[Requirement]) -> dict[str, metadata.Distribution]:
    """Return name -> distribution of the requirements and of all that they need, those that are installed."""
    found, waiting = {}, [(canonicalize_name(one.name), one.extras) for one in roots]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for text in found[name].requires or []:
            one = Requirement(text)
            environments = [default_environment() | dict(extra=extra) for extra in ("", *extras)]
            if one.marker is None or any(one.marker.evaluate(env) for env in environments):
                waiting.append((canonicalize_name(one.name), one.extras))
    return dict(sorted(found.items()))


def licence(distribution: metadata.Distribution) -> str:
    """Return the licence that a package names: its expression, else its classifiers, else a short text of its field."""
    about = distribution.metadata
    if about.get("License-Expression"):
        return about["License-Expression"]
    names = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    names = [name for name in names if name != "OSI Approved"]
    if names:
        return ", ".join(dict.fromkeys(names))
    text = (about.get("License") or "").strip()
    return text.splitlines()[0][:80] if text and text.upper() != "UNKNOWN" else "not named"


def licences_page(found: dict[str, metadata.Distribution]) -> str:
    """Return docs/licences.md."""
    rows = [f"| {name} | {one.version} | {licence(one).replace('|', '/')} |" for name, one in found.items()]
    return HEAD + "\n".join(["| package | version | licence |", "| --- | --- | --- |", *rows]) + "\n"


def advisories(python: str, packages: dict[str, metadata.Distribution]) -> dict:
    """Return the fields of a row about known vulnerabilities of the packages, by pip-audit."""
    # Versions with a local part ("+cpu") are of builds that no advisory names.
    lines = [f"{name}=={one.version.split('+')[0]}" for name, one in packages.items()]
    command = [python, "-m", "pip_audit", "-r", "/dev/stdin", "--no-deps", "--disable-pip", "--format", "json"]
    done = _run([*command, "--progress-spinner", "off"], "\n".join(lines))
    fields = dict(what="known vulnerabilities (pip-audit)", packages=len(packages))
    if not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        if not UNREACHABLE.search(done.stderr):
            raise ConfigError(f"pip-audit failed: {last}")
        return fields | dict(
            found=None, says="the service with the advisories could not be reached: nothing was checked"
        )
    listed = json.loads(done.stdout)["dependencies"]
    hits = {one["name"]: [v["id"] for v in one["vulns"]] for one in listed if one.get("vulns")}
    skipped = [one["name"] for one in listed if one.get("skip_reason")]
    if len(skipped) == len(listed):  # a mirror of the index, for example, that has no advisories
        return fields | dict(
            found=None, says=f"nothing was checked: {listed[0]['skip_reason'] if listed else 'no packages'}"
        )
    text = "; ".join(f"{name} {' '.join(ids)}" for name, ids in hits.items()) or "none is known"
    text += f"; {len(skipped)} are not listed there" if skipped else ""
    return fields | dict(found=sum(map(len, hits.values())), says=text)


def bill_of_materials(python: str, target: str) -> dict:
    """Write the bill of materials of this Python's environment and return the fields of a row."""
    command = [python, "-m", "cyclonedx_py", "environment", sys.executable, "--of", "JSON", "-o", target]
    done = _run(command, "")
    if done.returncode:
        raise ConfigError(f"cyclonedx-py failed: {done.stderr.strip()[-500:]}")
    count = len(json.loads(Path(target).read_text())["components"])
    return dict(what="bill of materials (CycloneDX)", packages=count, found=None, says="of the whole environment")


def _run(command: list[str], text: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=AUDIT_S)
    except OSError as error:
        raise ConfigError(f"{command[0]} does not run ({error.strerror}): give a Python to --audit-python") from None
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "timed out")


def main() -> None:
    args = parse_args()
    found = installed(requirements())
    write_file(PAGE, licences_page(found))
    unnamed = [name for name, one in found.items() if licence(one) == "not named"]
    says = f"docs/licences.md; {', '.join(unnamed)} name none" if unnamed else "docs/licences.md"
    rows = [dict(what="licences", packages=len(found), found=len(found) - len(unnamed), says=says)]
    if args.audit_python:
        rows.append(advisories(args.audit_python, found))
    if args.sbom:
        rows.append(bill_of_materials(args.audit_python, args.sbom))
    for one in rows:
        print(f"{one['what']}: {one['packages']} packages; {one['says']}")
    write_rows(args.json, [row(kind="supply", **one) for one in rows])


if __name__ == "__main__":
    run(main)
