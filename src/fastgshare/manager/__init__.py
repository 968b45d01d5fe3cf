"""FaST-Manager: limits and isolates every instance on a device, in space and in time, and keeps the books."""
