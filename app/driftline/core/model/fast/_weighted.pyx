# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, cpow=True
"""`PlainSum` and `PlainScale` of `weighted`, `PlainNamed` of `named`, and `plain_slope` and `plain_sigmoid` of `logistic`,
compiled: the same operations on the same numbers in the same order."""

from collections import Counter

from cpython.dict cimport PyDict_Next, PyDict_Size
from cpython.long cimport PyLong_AsSsize_t
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from libc.math cimport exp, fabs, isfinite, pow

from driftline.core.model.fast.exact cimport number_of

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(object, object) except? NULL


cdef class Sum:
    cdef Py_ssize_t size
    cdef long long count
    cdef double *means
    cdef double *variances
    cdef double *roots
    cdef double *weights
    cdef double *scaled
    cdef double intercept
    cdef double rate
    cdef double intercept_rate
    cdef double penalty

    def __cinit__(self, tuple numbers not None, tuple rates not None):
        cdef Py_ssize_t place
        self.count, means, variances, weights, self.intercept = numbers
        self.rate, self.intercept_rate, self.penalty = rates
        self.size = len(means)
        if not len(variances) == len(weights) == self.size:
            raise ValueError("as many means, variances and weights")
        self.means = <double *> PyMem_Malloc(5 * max(self.size, 1) * sizeof(double))
        if self.means is NULL:
            raise MemoryError
        self.variances = self.means + self.size
        self.roots = self.variances + self.size
        self.weights = self.roots + self.size
        self.scaled = self.weights + self.size
        for place in range(self.size):
            self.means[place] = means[place]
            self.variances[place] = variances[place]
            self.roots[place] = root_of(self.variances[place])
            self.weights[place] = weights[place]
            self.scaled[place] = 0.0

    def __dealloc__(self):
        PyMem_Free(self.means)

    def ask(self, values):
        cdef tuple row = self.row(values)
        cdef Py_ssize_t place
        cdef double total = 0.0, root, value
        for place in range(self.size):
            value = row[place]
            root = self.roots[place]
            total += self.weights[place] * ((value - self.means[place]) / root if root != 0.0 else 0.0)
        return total + self.intercept

    def advance(self, values):
        cdef tuple row = self.row(values)
        cdef Py_ssize_t place
        cdef double total = 0.0, count, value, mean, variance, root, before, after
        self.count += 1
        count = <double> self.count
        for place in range(self.size):
            value = row[place]
            mean, variance = self.means[place], self.variances[place]
            before = value - mean
            mean = mean + before / count
            after = value - mean
            variance = variance + (before * after - variance) / count
            root = root_of(variance)
            value = after / root if root != 0.0 else 0.0
            self.means[place], self.variances[place], self.roots[place] = mean, variance, root
            self.scaled[place] = value
            total += self.weights[place] * value
        return total + self.intercept

    def descend(self, double slope):
        cdef Py_ssize_t place
        cdef double weight
        self.intercept -= self.intercept_rate * slope
        for place in range(self.size):
            weight = self.weights[place]
            if self.penalty == 0.0:
                self.weights[place] = weight - self.scaled[place] * slope * self.rate
            else:
                self.weights[place] = weight - (self.scaled[place] * slope + weight * self.penalty) * self.rate

    def numbers(self):
        cdef Py_ssize_t place
        means = [self.means[place] for place in range(self.size)]
        variances = [self.variances[place] for place in range(self.size)]
        weights = [self.weights[place] for place in range(self.size)]
        return self.count, means, variances, weights, self.intercept

    cdef inline tuple row(self, values):
        cdef tuple row = tuple(values)
        if len(row) != self.size:
            raise IndexError("as many values as weights")
        return row


cdef class Scale:
    cdef Py_ssize_t size
    cdef long long count
    cdef double *means
    cdef double *variances
    cdef double *roots

    def __cinit__(self, tuple numbers not None):
        cdef Py_ssize_t place
        self.count, means, variances = numbers
        self.size = len(means)
        if len(variances) != self.size:
            raise ValueError("as many means and variances")
        self.means = <double *> PyMem_Malloc(3 * max(self.size, 1) * sizeof(double))
        if self.means is NULL:
            raise MemoryError
        self.variances = self.means + self.size
        self.roots = self.variances + self.size
        for place in range(self.size):
            self.means[place] = means[place]
            self.variances[place] = variances[place]
            self.roots[place] = root_of(self.variances[place])

    def __dealloc__(self):
        PyMem_Free(self.means)

    def transform(self, row):
        cdef list values = self.row(row)
        cdef list scaled = []
        cdef Py_ssize_t place
        cdef double value, root
        for place in range(self.size):
            value = values[place]
            root = self.roots[place]
            scaled.append((value - self.means[place]) / root if root != 0.0 else 0.0)
        return scaled

    def advance(self, row):
        cdef list values = self.row(row)
        cdef list scaled = []
        cdef Py_ssize_t place
        cdef double count, value, mean, variance, root, before, after
        self.count += 1
        count = <double> self.count
        for place in range(self.size):
            value = values[place]
            mean, variance = self.means[place], self.variances[place]
            before = value - mean
            mean = mean + before / count
            after = value - mean
            variance = variance + (before * after - variance) / count
            root = root_of(variance)
            self.means[place], self.variances[place], self.roots[place] = mean, variance, root
            scaled.append(after / root if root != 0.0 else 0.0)
        return scaled

    def numbers(self):
        means = [self.means[place] for place in range(self.size)]
        variances = [self.variances[place] for place in range(self.size)]
        return self.count, means, variances

    cdef inline list row(self, values):
        cdef list row = list(values)
        if len(row) != self.size:
            raise ValueError("as many values as means")
        return row


cdef inline double root_of(double variance) noexcept nogil:
    return pow(variance, 0.5) if variance != 0.0 else 0.0


cdef class Named:
    cdef dict places
    cdef list names
    cdef Py_ssize_t room
    cdef double *weights
    cdef double *squares
    cdef bint adapts
    cdef double least
    cdef double two
    cdef Py_ssize_t shown
    cdef Py_ssize_t shown_room
    cdef Py_ssize_t *shown_places
    cdef double *shown_values

    def __cinit__(self, tuple numbers not None, least):
        cdef Py_ssize_t place
        names, weights, squares = numbers
        self.names = list(names)
        self.places = {name: place for place, name in enumerate(self.names)}
        self.adapts = least is not None
        self.least = least if self.adapts else 0.0
        self.two = 2.0  # where the compiler knew it, it would multiply, which does not round as `pow` does
        if not len(self.places) == len(self.names) == len(weights) == len(squares):
            raise ValueError("as many names, weights and squares, and no name twice")
        self.grow(len(self.names))
        self.grow_shown(32)
        for place in range(len(self.names)):
            self.weights[place] = weights[place]
            self.squares[place] = squares[place]

    def __dealloc__(self):
        PyMem_Free(self.weights)
        PyMem_Free(self.squares)
        PyMem_Free(self.shown_places)
        PyMem_Free(self.shown_values)

    def ask(self, features):
        cdef PyObject *name
        cdef PyObject *given
        cdef PyObject *found
        cdef Py_ssize_t at = 0, size
        cdef double total = 0.0, value = 0.0
        if not is_plain(features):
            return None
        size = PyDict_Size(features)
        while PyDict_Next(features, &at, &name, &given):
            if not number_of(given, &value):
                return None
            own = <object> name
            found = PyDict_GetItemWithError(self.places, own)
            if PyDict_Size(features) != size:
                raise changed()
            total += (self.weights[PyLong_AsSsize_t(<object> found)] if found is not NULL else 0.0) * value
        return total if isfinite(total) else None

    def advance(self, features):
        cdef PyObject *name
        cdef PyObject *given
        cdef PyObject *found
        cdef Py_ssize_t at = 0, place, shown = 0, size
        cdef double total = 0.0, value = 0.0
        if not is_plain(features):
            return None
        size = PyDict_Size(features)
        if size > self.shown_room:
            self.grow_shown(2 * size)
        while PyDict_Next(features, &at, &name, &given):
            if not number_of(given, &value):
                return None
            own = <object> name
            found = PyDict_GetItemWithError(self.places, own)
            if found is not NULL:
                place = PyLong_AsSsize_t(<object> found)
            else:
                place = self.add(own)
            if PyDict_Size(features) != size or shown == size:
                raise changed()
            self.shown_places[shown] = place
            self.shown_values[shown] = value
            shown += 1
            total += self.weights[place] * value
        self.shown = shown
        return total if isfinite(total) else None

    def descend(self, double slope, double rate):
        cdef Py_ssize_t number, place
        cdef double part, size, total, under
        for number in range(self.shown):
            place, part = self.shown_places[number], self.shown_values[number] * slope
            if not self.adapts:
                self.weights[place] -= part * rate
                continue
            size = fabs(part)
            if size != 0.0 and not 1e-150 < size < 1e150:
                self.descend_oddly(place, part, rate)
                continue
            total = self.squares[place] + pow(part, self.two)
            under = total + self.least
            if not 1e-300 < under < 1e300:
                self.descend_oddly(place, part, rate)
                continue
            self.squares[place] = total
            self.weights[place] -= rate / pow(under, 0.5) * part

    def numbers(self):
        cdef Py_ssize_t place
        weights = [self.weights[place] for place in range(len(self.names))]
        squares = [self.squares[place] for place in range(len(self.names))]
        return list(self.names), weights, squares

    cdef descend_oddly(self, Py_ssize_t place, object part, object rate):
        """As Python has it, which raises where a number is too large."""
        cdef object total = self.squares[place] + part**2
        self.squares[place] = total
        self.weights[place] -= rate / (total + self.least) ** 0.5 * part

    cdef Py_ssize_t add(self, object name) except -1:
        cdef Py_ssize_t place = len(self.names)
        if place == self.room:
            self.grow(2 * place)
        self.weights[place] = self.squares[place] = 0.0
        self.names.append(name)
        self.places[name] = place
        return place

    cdef int grow(self, Py_ssize_t room) except -1:
        cdef Py_ssize_t rooms = max(room, 64)
        cdef double *weights = <double *> PyMem_Realloc(self.weights, rooms * sizeof(double))
        if weights is NULL:
            raise MemoryError
        self.weights = weights
        cdef double *squares = <double *> PyMem_Realloc(self.squares, rooms * sizeof(double))
        if squares is NULL:
            raise MemoryError
        self.squares = squares
        self.room = rooms
        return 0

    cdef int grow_shown(self, Py_ssize_t room) except -1:
        cdef Py_ssize_t *places = <Py_ssize_t *> PyMem_Realloc(self.shown_places, room * sizeof(Py_ssize_t))
        if places is NULL:
            raise MemoryError
        self.shown_places = places
        cdef double *values = <double *> PyMem_Realloc(self.shown_values, room * sizeof(double))
        if values is NULL:
            raise MemoryError
        self.shown_values = values
        self.shown_room = room
        return 0


cdef object changed():
    """As Python has it: a name's own `__eq__` may change the dict that is being read."""
    return RuntimeError("dictionary changed size during iteration")


cdef inline bint is_plain(object features):
    return type(features) is dict or type(features) is Counter


cdef class Slope:
    cdef double flat
    cdef double most
    cdef object other

    def __cinit__(self, double flat, double most, other):
        self.flat, self.most, self.other = flat, most, other

    def __call__(self, label, raw):
        cdef double z, sign, found
        if type(raw) is not float or not (label is True or label is False):
            return self.other(label, raw)
        sign = 1.0 if label is True else -1.0
        z = <double> raw * sign
        if z > self.flat:
            found = exp(-z) * -sign
        elif z < -self.flat:
            found = -sign
        else:
            found = -sign / (exp(z) + 1.0)
        if self.most < found:
            found = self.most
        if -self.most > found:
            found = -self.most
        return found


def sigmoid(double raw):
    if raw < -30.0:
        return 0
    if raw > 30.0:
        return 1
    return 1.0 / (1.0 + exp(-raw))
