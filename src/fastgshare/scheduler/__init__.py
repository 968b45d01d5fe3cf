"""FaST-Scheduler: where instances lie on their devices (packing, pure), what to do about it (reconcile, pure),
and the loop that does it (controller)."""
