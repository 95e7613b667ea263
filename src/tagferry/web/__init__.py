"""The HTTP interface of a region: SWR's management API, IAM and the embedded registry on one address."""
