"""What files, and datasets of the Hub, offer to choose demonstrations from."""

from __future__ import annotations

from ditto_hub.demos.importers import Preview, preview
from ditto_hub.demos.importers.apart import preview_apart, preview_bytes_apart
from ditto_hub.tokens import Token

__all__ = ["preview", "preview_apart", "preview_dataset"]


def preview_dataset(dataset: str, token: Token | str, visitor: str = "") -> Preview:
    """Show what a dataset on the Hub offers, read in a process of its own.

    Args:
        dataset: USER/NAME, or USER/NAME/FILE for one of its files.
        token: of the Hub.
        visitor: who asks, of whom one file is read at a time; "" for nobody in particular.

    Raises:
        HubError: there is none to be seen, or it cannot be reached.
        DemoError: nothing in it can be read.
    """
    from ditto_hub.hub.datasets import read_dataset

    name, data = read_dataset(dataset, token)
    return preview_bytes_apart(data, name, visitor)
