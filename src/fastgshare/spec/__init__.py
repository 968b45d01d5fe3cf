"""Untrusted text to domain values, once: functions.yaml, OpenFaaS JSON, annotations."""
