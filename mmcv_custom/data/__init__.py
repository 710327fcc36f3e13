"""Loading images, synthetic images, and checks of data sets."""
