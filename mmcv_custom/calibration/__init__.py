"""Search for the setting of a method that has a wanted cost, and write it as a config."""
