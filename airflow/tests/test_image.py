"""What is installed in the image does not depend on the order in which it was installed."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from importlib.metadata import distributions

# dbt-core brings files of the same name; the Dockerfile installs the adapter after it.
LAST = {"dbt/__init__.py": "dbt-postgres", "dbt/adapters/__init__.py": "dbt-postgres"}


def test_a_path_that_two_packages_bring_is_the_one_s_that_is_installed_last() -> None:
    contents: dict[str, dict[str, str]] = defaultdict(dict)
    places = {}
    for distribution in distributions():
        for file in distribution.files or []:
            if file.hash is not None:
                contents[str(file)][distribution.metadata["Name"]] = file.hash.value
                places[str(file)] = file.locate()
    contested = {path: by for path, by in contents.items() if len(set(by.values())) > 1}
    winners = {}
    for path, by in contested.items():
        digest = hashlib.sha256(places[path].read_bytes()).digest()
        installed = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        winners[path] = [name for name, value in by.items() if value == installed]
    assert winners == {path: [name] for path, name in LAST.items()}
