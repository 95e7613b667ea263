"""What happens when tags change or time passes."""
