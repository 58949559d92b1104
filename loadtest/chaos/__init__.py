"""Faults put into the real system while it works, and what must hold in the end.

`just chaos`, or `DURATION=1800 SEED=7 python -m loadtest.chaos`: PostgreSQL, API servers and agents
as processes, every link between them through a proxy of ours, and tasks that write down what they
do. A plan, which the seed determines, kills, stops, cuts and stalls; then all is healed, what is
left is finished, and `checks` and `logs` judge. Any violation makes the exit code 1.
"""
