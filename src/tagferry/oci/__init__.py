"""The parts of an image, and the contract of image stores."""
