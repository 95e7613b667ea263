"""Actions started by tag changes or schedules: rules, triggers and retention."""
