"""Metrics over many documents, prediction files, reports."""
