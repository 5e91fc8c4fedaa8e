"""The Space's entry; `ditto-hub app` is the same on one's own machine."""

import os

if os.environ.get("SPACES_ZERO_GPU"):
    import spaces  # noqa: F401  before anything that may touch CUDA

from ditto_hub.ui.app import serve

if __name__ == "__main__":
    serve()
