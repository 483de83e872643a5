"""The guard: what may be served, and what is served in place of what may not.

A prediction climbs the rungs in a fixed order, each in a file of its own:

    finite        a number; checked by `core.model.learner`, also without a guard
    untrained     a model that has learned enough
    range         between a least and a greatest value
    step          not too far from the last value of its series
    width         an interval that is not too wide
    unfamiliar    an event whose features are like those that were learned from
    share         a yes, where not too many are
    distribution  the latest predictions are distributed as earlier ones

A rung that trips acts: `flag` lets the prediction go on and marks the score; `clip` goes on with the limit; the others
end the climb with a fallback, or with nothing. A fallback must pass the rungs that are not mere flags as well; where
none does, nothing is served. So no value leaves that the limits exclude, whatever the model says.

Of a forecast, each horizon climbs by itself (`core.guard.ahead`).

To add a rung: write its file, and name it in `rungs.RUNGS`, in `Rung` in `core.output` and in `GuardForm`.
"""
