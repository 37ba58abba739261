"""Endpoints: deploy, update, describe, invoke, scale."""
