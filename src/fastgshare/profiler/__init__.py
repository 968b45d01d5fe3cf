"""FaST-Profiler: what a share of a device is worth to a function, from few trials and with known error."""
