"""The HTTP face: SWR's management API, IAM, and the embedded registry on one address."""
