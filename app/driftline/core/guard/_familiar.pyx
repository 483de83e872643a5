# cython: language_level=3, boundscheck=False, wraparound=False
"""`learn` and `is_familiar` of `familiar`, compiled: the same, five times as fast."""

from driftline.core.guard.familiar import TEXT_MAX, TEXTS_MAX

cdef Py_ssize_t text_max = TEXT_MAX, texts_max = TEXTS_MAX


def learn(list known not None, row):
    cdef tuple values = tuple(row)
    cdef Py_ssize_t place
    cdef list one
    cdef dict texts
    cdef object value, kind, count
    for place in range(min(len(known), len(values))):
        value = values[place]
        if value is None:
            continue
        one = known[place]
        if len(one) != 5:
            raise ValueError("of a feature, five things are known")
        one[0] += 1
        kind = type(value)
        if kind is float or kind is int:
            if one[1] is None:
                one[1] = one[2] = value
            elif less(value, one[1]):
                one[1] = value
            elif less(one[2], value):
                one[2] = value
            continue
        texts = one[3]
        if texts is None:
            continue
        if kind is str and len(<str> value) > text_max:
            one[3], one[4] = None, 0
            continue
        count = texts.get(value, 0)
        texts[value] = count + 1
        if count == 0:
            one[4] += 1
        elif count == 1:
            one[4] -= 1
        if len(texts) > texts_max:
            one[3], one[4] = None, 0


def is_familiar(list known not None, row):
    cdef tuple values = tuple(row)
    cdef Py_ssize_t place
    cdef list one
    cdef dict texts
    cdef object value, kind
    for place in range(min(len(known), len(values))):
        value = values[place]
        one = known[place]
        if len(one) != 5:
            raise ValueError("of a feature, five things are known")
        kind = type(value)
        if kind is float or kind is int:
            if one[1] is not None and (not at_most(one[1], value) or not at_most(value, one[2])):
                return False
        elif value is not None:
            texts = one[3]
            if texts is not None and value not in texts:
                return False
    return True


cdef inline bint less(object one, object other):
    if type(one) is float and type(other) is float:
        return <double> one < <double> other
    return one < other


cdef inline bint at_most(object one, object other):
    if type(one) is float and type(other) is float:
        return <double> one <= <double> other
    return one <= other
