"""Which tools an adapter's file loads in, by rules that are not the exporter's; and reading files made by others."""
