# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, cpow=True
"""`PlainSum` and `PlainScale` of `weighted`, compiled: the same operations on the same numbers in the same order."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.math cimport pow


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
