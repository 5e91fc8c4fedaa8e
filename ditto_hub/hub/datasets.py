"""Read one data file of a dataset on the Hub: past any cache, and never more than asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ditto_hub.errors import HubError
from ditto_hub.hub.client import HubClient, require_repo_id
from ditto_hub.tokens import Token

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet", ".json")
NO_DATA = ("dataset_infos.json", "dataset_info.json", "state.json", "package.json")
MOST_BYTES = 20_000_000
ADDRESS = "/datasets/"


def read_dataset(dataset: str, token: Token | str) -> tuple[str, bytes]:
    """Return the name and bytes of a dataset's data file.

    Args:
        dataset: USER/NAME, which takes its first training file, or USER/NAME/FILE; the address
            of its page does too.
        token: of the Hub.

    Raises:
        HubError: there is no such dataset or file to be seen, or the file is too large.
    """
    repo_id, path = _parts(dataset)
    require_repo_id(repo_id)
    client = HubClient(token)
    info = client.info(repo_id, kind="dataset")
    if info is None:
        raise HubError("hub.no_such_dataset", repo_id=repo_id)
    there = [sibling.rfilename for sibling in info.siblings or []]
    files = _data_files(there)
    path = path or next(iter(files), "")
    data = None
    if path in there:
        data = client.read(f"datasets/{repo_id}", path, info.sha, MOST_BYTES)
    if data is None:
        told = ", ".join(files)[:300] or "none"
        if not path:
            raise HubError("hub.no_data_file", repo_id=repo_id, have=told)
        raise HubError("hub.no_such_file", repo_id=repo_id, path=path, have=told)
    return path.rpartition("/")[2], data


def _parts(dataset: str) -> tuple[str, str]:
    """Part USER/NAME/FILE, or a page's address, into the repo's id and the file's path."""
    named = dataset.strip()
    if "://" in named:
        named = named.partition(ADDRESS)[2] if ADDRESS in named else named
        for page in ("/blob/main/", "/resolve/main/", "/tree/main", "/viewer"):
            named = named.replace(page, "/")
    user, _, rest = named.strip("/").partition("/")
    name, _, path = rest.partition("/")
    return (f"{user}/{name}" if name else user), path


def _data_files(files: Sequence[str]) -> list[str]:
    """Return the files that hold rows, the training part first, the simplest kind first."""
    kept = [
        f for f in files if f.lower().endswith(SUFFIXES) and f.rpartition("/")[2] not in NO_DATA
    ]
    kept = [f for f in kept if not f.startswith(".")]

    def rank(file: str) -> tuple[bool, int, str]:
        kind = next(n for n, suffix in enumerate(SUFFIXES) if file.lower().endswith(suffix))
        return "train" not in file.lower(), kind, file

    return sorted(kept, key=rank)
