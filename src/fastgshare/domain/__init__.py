"""Values and units that all rooms agree on. No behaviour beyond arithmetic."""
