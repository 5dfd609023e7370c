"""Features as serving would have seen them: catalog, point-in-time reads, leak detection."""
