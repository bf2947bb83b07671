"""gkore beside its peers: one worker each on one core, the load generator on the other, in interleaved rounds.

Standard library only, so that `scripts/bench` runs from any Python >= 3.11; what it measures lives in `.venv-bench`.
Reading order: workloads (what is asked), servers (who answers), install, machine, process, load, run, report, chart.
"""
