# cython: language_level=3, boundscheck=False, wraparound=False
"""`PlainPassing` of `passing`, compiled: the same, three times as fast."""

from libc.math cimport INFINITY

from driftline.core.guard.familiar import is_familiar
from driftline.core.guard.kept import BLOCK, CLEAN, TENTHS
from driftline.core.guard.share import EVENTS_MIN

cdef Py_ssize_t block = BLOCK, clean_max = CLEAN, tenths = TENTHS, events_min = EVENTS_MIN
cdef object familiar = is_familiar


cdef class Passing:
    cdef bint known, steps, asks
    cdef double least, most, tolerance, difference, ratio, yes_from, positive_max
    cdef long long learned_min, window_ms

    def __init__(self, limits):
        self.known, self.steps, self.asks = limits.known, limits.steps, limits.familiar
        self.least, self.most, self.tolerance = limits.least, limits.most, limits.tolerance
        self.difference, self.ratio = limits.difference, limits.ratio
        self.yes_from, self.positive_max = limits.yes_from, limits.positive_max
        self.learned_min, self.window_ms = limits.learned_min, limits.window_ms

    def count(self, kept, value, long long time_ms):
        counted(self, kept, value, time_ms)

    def take(self, kept, key, features, value, long long learned, long long time_ms):
        cdef list crowd = counted(self, kept, value, time_ms), series = None
        cdef dict all_series = None
        cdef double number
        cdef object clean
        if not self.known or learned < self.learned_min:
            return False
        if value is not None:
            if type(value) is not float:
                return False
            number = <double> value
            if not self.least <= number <= self.most:
                return False
            if crowd is not None and number >= self.yes_from and too_many(crowd, self.positive_max):
                return False
            if key is not None:
                all_series = kept.series
                found = all_series.get(key)
                if found is None:
                    return False
                series = found
                if len(series) != 3:
                    raise ValueError("of a series, three things are kept")
                if self.steps and not near(self, number, series[0]) and not near(self, number, series[1]):
                    return False
        if self.asks and not familiar(kept.known, features):
            return False
        clean = kept.clean
        if clean < clean_max:
            kept.clean = clean + 1
        if series is not None:
            if len(all_series) > 1:
                del all_series[key]
                all_series[key] = series
            series[0] = value
        return True


cdef list counted(Passing self, kept, value, long long time_ms):
    """Count a prediction; returns the counts of the window, where one is counted in."""
    cdef object filled = kept.filled
    cdef list crowds, latest, crowd
    cdef bint yes
    if filled < block:
        kept.filled = filled + 1
    else:
        kept.predicted()
    if not self.window_ms or value is None:
        return None
    yes = value >= self.yes_from
    crowds = kept.crowds
    latest, crowd = crowds[len(crowds) - 1] if crowds else None, kept.crowd_all
    if len(crowd) != 2 or latest is not None and len(latest) != 3:
        raise ValueError("of a window, three things are counted, and two of all")
    if latest is None or tenth(time_ms, self.window_ms) > latest[0]:
        kept.crowd(yes, time_ms, self.window_ms)
        return crowd
    latest[1] += 1
    crowd[0] += 1
    if yes:
        latest[2] += 1
        crowd[1] += 1
    return crowd


cdef inline long long tenth(long long time_ms, long long window_ms):
    """`time_ms * TENTHS // window_ms`, which may not fit on the way."""
    return time_ms // window_ms * tenths + time_ms % window_ms * tenths // window_ms


cdef bint too_many(list crowd, double positive_max) except -1:
    cdef double events = crowd[0], yes = crowd[1]
    return events >= events_min and yes / events - positive_max > 0


cdef bint near(Passing self, double value, object one) except -1:
    """Whether a value is near another one, as in `step`."""
    cdef double last, least, most
    if type(one) is not float:
        return False
    last = <double> one
    if last - self.tolerance <= value <= last + self.tolerance:
        return True
    if not last - self.difference <= value <= last + self.difference:
        return False
    if self.ratio == INFINITY:
        return True
    most, least = last * self.ratio, last / self.ratio
    return most <= value <= least or least <= value <= most
