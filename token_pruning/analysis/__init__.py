"""Record, count and draw what a forward pass computed; only this package draws."""
