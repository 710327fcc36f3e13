"""Model parts that all tasks share."""
