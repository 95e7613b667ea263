"""Requests made up from the OpenAPI document, by whoever may do everything and by nobody."""
