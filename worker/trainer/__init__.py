"""The trainer: a process of its own that trains, so that a worker outlives whatever training does to it.

``wire`` is what the two say to each other, ``handle`` the worker's end, ``serve`` the trainer's. Only the
latter imports torch. The trainer knows neither database, broker nor storage.
"""
