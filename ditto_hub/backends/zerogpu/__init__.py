"""ZeroGPU: a run in bounded leases."""
