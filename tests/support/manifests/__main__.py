"""Render every overlay into a folder: `python -m tests.support.manifests [FOLDER]`.

Without a folder it only says what there is.
"""

import sys
from collections import Counter
from pathlib import Path

import yaml

from tests.support.manifests.cluster import OVERLAYS, overlay


def main(folder: Path | None) -> None:
    """Render; one line for each overlay."""
    for name in OVERLAYS:
        docs = overlay(name)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump_all(docs, sort_keys=False)
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        counted = Counter(str(doc["kind"]) for doc in docs)
        print(f"{name}: {', '.join(f'{count} {kind}' for kind, count in counted.most_common())}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
