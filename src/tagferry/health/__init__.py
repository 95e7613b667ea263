"""The health of the regions' registries: checked at an interval, recorded in the database, and shown to users."""
