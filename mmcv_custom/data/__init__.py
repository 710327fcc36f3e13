"""Reading images, and checks of data sets."""
