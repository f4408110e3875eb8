"""Write or check the generated documents: `python -m octarm.models.schemas [--check] [FOLDER]`."""

import argparse
import sys
from pathlib import Path

from octarm.models.schemas.documents import differences, write


def main(arguments: list[str]) -> int:
    """Give 0 when all is as generated, 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="octarm.models.schemas", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("shared"))
    parser.add_argument("--check", action="store_true", help="change nothing, list differences")
    options = parser.parse_args(arguments)
    if not options.check:
        sys.stdout.writelines(f"wrote {name}\n" for name in write(options.folder))
        return 0
    different = differences(options.folder)
    sys.stderr.writelines(f"{name}: run `make schemas`\n" for name in different)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
