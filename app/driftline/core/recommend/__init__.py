"""Recommendation: policies, and the model that makes slates. The rest of Driftline asks `core.task.recommend`."""
