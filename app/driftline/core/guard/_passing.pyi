from driftline.core.guard.passing import Limits, PlainPassing

class Passing(PlainPassing):
    def __init__(self, limits: Limits) -> None: ...
