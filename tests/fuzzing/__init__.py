"""Generated requests from the OpenAPI document, as an administrator, as an ordinary user and without a login."""
