"""The HTTP front door: OpenFaaS's API, functions' requests, metrics."""
