"""What is measured, each a program of its own: `python -m benchmarks.contender.NAME '{options as JSON}'`.

All do the same work: read events and labels, score each event, keep it until its label is there (or the label until its
event is), learn the pair, publish the score. The rate is counted by one rule for all: pairs learned,
divided by the time from the first record in hand to the moment when all pairs are learned and all scores
acknowledged by the broker. Connecting, joining the group and importing come before that and do not count.
"""
