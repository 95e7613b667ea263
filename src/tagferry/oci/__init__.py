"""What an image is made of, and the contract of whatever keeps images."""
