"""Which tools load an adapter's file, by rules independent of the exporter's; and reading other tools' files."""
