"""Jobs: their records, their queue, and the workers that run them."""
