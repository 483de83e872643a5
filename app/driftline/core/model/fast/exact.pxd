"""Numbers out of Python's objects, where a float holds them exactly."""

from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject


cdef inline bint number_of(PyObject *given, double *into) except -1:
    """A number that a float holds exactly; false of anything else."""
    cdef object value = <object> given
    cdef int beyond = 0
    cdef long long whole, most = 2**53
    if type(value) is float:
        into[0] = PyFloat_AS_DOUBLE(value)
        return True
    if type(value) is int or type(value) is bool:
        whole = PyLong_AsLongLongAndOverflow(value, &beyond)
        into[0] = <double> whole
        return beyond == 0 and -most <= whole <= most
    return False
