"""Sessions, downloads, the queue, limits, endpoints for programs."""
