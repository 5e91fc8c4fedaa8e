"""What files, and datasets of the Hub, offer to choose demonstrations from."""

from __future__ import annotations

from ditto_hub.importers import Preview, preview, preview_bytes

__all__ = ["preview", "preview_dataset"]


def preview_dataset(dataset: str, token: str | None = None) -> Preview:
    """Show what a dataset on the Hub offers.

    Args:
        dataset: USER/NAME, or USER/NAME/FILE for one of its files.
        token: of the Hub; "" for none, None for the one saved on this machine.

    Raises:
        HubError: there is none to be seen, or it cannot be reached.
        DemoError: nothing in it can be read.
    """
    from ditto_hub.hub.datasets import read_dataset

    name, data = read_dataset(dataset, token)
    return preview_bytes(data, name)
