"""Tenants: who shares the service without seeing each other. The operator makes them."""
