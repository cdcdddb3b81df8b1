"""Generates `proto/gen` from `proto/`; with `--check`, fails when the committed code is not current."""

import filecmp
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GENERATED = PROTO / "gen"


def generate(target: Path) -> None:
    """Write messages, stubs and their types for every proto file below `target`."""
    sources = sorted(str(path) for path in (PROTO / "holdfast").rglob("*.proto"))
    with resources.as_file(resources.files("grpc_tools") / "_proto") as well_known:
        status = protoc.main(
            [
                "protoc",
                f"-I{PROTO}",
                f"-I{well_known}",
                f"--python_out={target}",
                f"--mypy_out={target}",
                f"--grpc_python_out={target}",
                f"--mypy_grpc_out={target}",
                *sources,
            ]
        )
    if status != 0:
        sys.exit(f"protoc failed with status {status}; its message is above")


def differing(left: Path, right: Path) -> list[str]:
    """Paths that exist on one side only or hold other bytes."""
    names = {str(p.relative_to(side)) for side in (left, right) for p in side.rglob("*.py*") if p.is_file()}
    names = {name for name in names if "__pycache__" not in name}
    _, mismatch, missing = filecmp.cmpfiles(left, right, names, shallow=False)
    return sorted([*mismatch, *missing])


def main() -> None:
    """Generate in place, or compare."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        if "--check" in sys.argv[1:]:
            if stale := differing(fresh, GENERATED):
                sys.exit("generated code is not current, run `make generate`:\n  " + "\n  ".join(stale))
            return
        shutil.rmtree(GENERATED, ignore_errors=True)
        shutil.copytree(fresh, GENERATED)


if __name__ == "__main__":
    main()
