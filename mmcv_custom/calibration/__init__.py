"""Setting the cost of a method: search, and the config that keeps what was found."""
