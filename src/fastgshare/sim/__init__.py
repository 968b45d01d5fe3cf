"""The twin: a virtual clock and simulated devices, driven by the very policies that the live system runs."""
