"""The pages of the console, one module for each subject. No page imports another."""
