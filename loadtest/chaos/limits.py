"""What the machines of a campaign are set to; tests and checks go by it."""

LEASE_S = 6.0
REAPER_S = 0.5
KILL_GRACE_S = 0.5
"""Exclusive tasks are ended so long before the lease is over, and some. With a second they would
be when a beat is a tenth of a second late: two thirds of a lease pass while two are parked."""
PIPE_WAIT_S = 1.0
CRASH_LIMIT = 5
WORKERS = 2
"""Of each server."""
SLOTS = (8, 6, 4)
"""Of each agent."""
