"""Alerts of the service: what it finds itself, and how all of them reach somebody."""
