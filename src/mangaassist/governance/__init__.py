"""Kill switches: what the platform may do at all, decided before any gate is asked."""
