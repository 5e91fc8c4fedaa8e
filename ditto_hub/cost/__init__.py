"""What a run takes: model shapes, devices, estimates, quota, and what a machine offers."""
