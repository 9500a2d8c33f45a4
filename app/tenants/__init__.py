"""Tenants share the service without seeing each other. The operator creates them."""
