"""Where instances live: processes on this machine."""
