"""How long jobs and steps take, beside the bare network and other trainers: ``make bench``."""
