"""Where a run is worked on: this machine, ZeroGPU leases, Hub Jobs."""
