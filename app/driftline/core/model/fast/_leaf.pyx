# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, cpow=True
"""`PlainLeaf` and `plain_way` of `leaf`, compiled: the same operations on the same numbers in the same order.

The numbers of a leaf's Gaussians are taken out of River's objects, class by class. Nothing is changed where a call
returns None.
"""

import math

from river.tree.nodes.branch import NumericBinaryBranch
from river.tree.splitter import GaussianSplitter

from cpython.dict cimport PyDict_Size
from cpython.long cimport PyLong_AsSsize_t
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from libc.math cimport INFINITY, exp, fabs, isfinite, log, pow

from driftline.core.model.fast.exact cimport number_of

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(object, object) except? NULL

cdef double HUGE = 1e150  # beyond it squares overflow, and what comes of that depends on the order of operands
cdef double HALF_LOG_TAU = 0.5 * math.log(math.tau)  # and not the compiler's logarithm
cdef object BRANCH = NumericBinaryBranch
cdef object SPLITTER = GaussianSplitter


cdef struct Gaussian:
    bint known  # a value was seen
    bint spread  # so many that they have a variance
    double count
    double mean
    double squares
    double least
    double most
    double twice  # the variance, negative
    double half_log  # of the variance


cdef class Leaf:
    cdef object leaf
    cdef object splitters
    cdef dict stats
    cdef list names  # of the features
    cdef list labels
    cdef dict places  # of the labels
    cdef list bounds  # by feature, the least and the most of each class
    cdef list parts  # by Gaussian, its objects of River's
    cdef Py_ssize_t features
    cdef Py_ssize_t classes
    cdef Gaussian *gaussians
    cdef double *values
    cdef bint *present
    cdef double *weights
    cdef double *votes
    cdef double majority_right
    cdef double bayes_right
    cdef double two
    cdef object asked  # the features that were voted on last
    cdef bint changed
    cdef bint whole  # all features must be known

    def __cinit__(self, leaf, bint whole):
        cdef Py_ssize_t feature, place
        splitters, stats = leaf.splitters, leaf.stats
        if type(splitters) is not dict or not splitters or type(stats) is not dict or not stats:
            raise ValueError("a leaf without splitters")
        self.leaf, self.splitters, self.stats, self.whole = leaf, splitters, stats, whole
        self.names, self.labels = list(splitters), list(stats)
        self.places = {label: place for place, label in enumerate(self.labels)}
        self.features, self.classes = len(self.names), len(self.labels)
        self.two = 2.0  # where the compiler knew it, it would multiply, which does not round as `pow` does
        self.gaussians = <Gaussian *> PyMem_Calloc(self.features * self.classes, sizeof(Gaussian))
        self.values = <double *> PyMem_Calloc(self.features, sizeof(double))
        self.present = <bint *> PyMem_Calloc(self.features, sizeof(bint))
        self.weights = <double *> PyMem_Calloc(self.classes, sizeof(double))
        self.votes = <double *> PyMem_Calloc(self.classes, sizeof(double))
        if not (self.gaussians and self.values and self.present and self.weights and self.votes):
            raise MemoryError
        for place in range(self.classes):
            self.weights[place] = exact(stats[self.labels[place]])
        self.majority_right, self.bayes_right = exact(leaf._mc_correct_weight), exact(leaf._nb_correct_weight)
        self.bounds, self.parts = [], [None] * (self.features * self.classes)
        for feature in range(self.features):
            self.take(feature, splitters[self.names[feature]])

    cdef take(self, Py_ssize_t feature, splitter):
        cdef Py_ssize_t number
        cdef Gaussian *one
        if type(splitter) is not SPLITTER:
            raise ValueError("a splitter of another kind")
        self.bounds.append((splitter._min_per_class, splitter._max_per_class))
        for label, distribution in splitter._att_dist_per_class.items():
            if label not in self.places:
                raise ValueError("a class that the leaf has not seen")
            number = PyLong_AsSsize_t(self.places[label]) * self.features + feature
            one, spread = &self.gaussians[number], distribution._var
            if spread.ddof != 1:
                raise ValueError("a variance of another kind")
            self.parts[number] = (spread, spread.mean)
            one.known = True
            one.count, one.mean, one.squares = exact(spread.mean.n), exact(spread.mean._mean), exact(spread._S)
            one.least, one.most = exact(splitter._min_per_class[label]), exact(splitter._max_per_class[label])
            prepare(one)

    def __dealloc__(self):
        PyMem_Free(self.gaussians)
        PyMem_Free(self.values)
        PyMem_Free(self.present)
        PyMem_Free(self.weights)
        PyMem_Free(self.votes)

    def ask(self, features):
        cdef double total
        if self.leaf.splitters is not self.splitters:
            return None
        if self.bayes_right >= self.majority_right:
            if not self.vote(features):
                return None
            return self.by_label(self.votes, 1.0)
        total = self.total()
        if not (total > 0.0 and isfinite(total)):
            return None
        return self.by_label(self.weights, 1.0 / total)

    def knows(self, label):
        cdef Py_ssize_t feature
        cdef PyObject *found = PyDict_GetItemWithError(self.places, label)
        if found is NULL:
            return False
        cdef Gaussian *row = &self.gaussians[PyLong_AsSsize_t(<object> found) * self.features]
        for feature in range(self.features):
            if not row[feature].known:
                return False
        return True

    def learn(self, features, label, weight):
        cdef PyObject *found = PyDict_GetItemWithError(self.places, label)
        cdef Py_ssize_t place
        cdef double heavy = 0.0
        if found is NULL or self.leaf.splitters is not self.splitters or not number_of(<PyObject *> weight, &heavy):
            return None
        place = PyLong_AsSsize_t(<object> found)
        if not self.vote(features) or not self.ready(features, place):
            return None
        if self.first_of_most(self.weights, 1.0 / self.total()) == place:
            self.majority_right += heavy
        if self.first_of_most(self.votes, 1.0) == place:
            self.bayes_right += heavy
        self.stats[label] = self.stats[label] + weight
        self.weights[place] += heavy
        self.update(features, label, place, heavy)
        self.asked, self.changed = None, True
        return self.total()

    cdef update(self, features, label, Py_ssize_t place, double weight):
        cdef Py_ssize_t feature
        cdef double value, before
        cdef Gaussian *one
        for feature in range(self.features):
            if not self.present[feature]:
                continue
            one, value = &self.gaussians[place * self.features + feature], self.values[feature]
            if value < one.least:
                one.least = value
                self.bounds[feature][0][label] = features[self.names[feature]]
            if value > one.most:
                one.most = value
                self.bounds[feature][1][label] = features[self.names[feature]]
            before = one.mean
            one.count += weight
            one.mean = before + (weight / one.count) * (value - before)
            one.squares += weight * (value - before) * (value - one.mean)
            prepare(one)

    def put_back(self):
        cdef Py_ssize_t number
        cdef Gaussian *one
        if not self.changed:
            return
        self.changed = False
        self.leaf._mc_correct_weight, self.leaf._nb_correct_weight = self.majority_right, self.bayes_right
        for number in range(self.features * self.classes):
            one = &self.gaussians[number]
            if one.known:
                spread, mean = self.parts[number]
                mean.n, mean._mean, spread._S = one.count, one.mean, one.squares

    cdef dict by_label(self, double *shares, double scale):
        cdef dict found = {}
        cdef Py_ssize_t place
        for place in range(self.classes):
            found[self.labels[place]] = shares[place] * scale
        return found

    cdef double total(self) noexcept:
        cdef Py_ssize_t place
        cdef double total = 0.0
        for place in range(self.classes):
            total += self.weights[place]
        return total

    cdef Py_ssize_t first_of_most(self, double *shares, double scale) noexcept:
        cdef Py_ssize_t place, first = 0
        for place in range(1, self.classes):
            if shares[place] * scale > shares[first] * scale:
                first = place
        return first

    cdef bint ready(self, features, Py_ssize_t place) except -1:
        """Whether all that is to be learned has its Gaussian."""
        cdef Py_ssize_t feature, count = 0
        for feature in range(self.features):
            if self.present[feature]:
                count += 1
                if not self.gaussians[place * self.features + feature].known:
                    return False
        return count == PyDict_Size(features) if self.whole else True

    cdef bint vote(self, features) except -1:
        """Vote by naive Bayes; false where that is River's."""
        cdef Py_ssize_t feature, place
        cdef double total, share, vote, far, size, density, most
        cdef Gaussian *one
        if features is self.asked and features is not None:
            return True
        self.asked = None
        total = self.total()
        if not (total > 0.0 and isfinite(total)) or not self.read(features):
            return False
        for place in range(self.classes):
            if not self.weights[place] > 0.0:
                self.votes[place] = 0.0
                continue
            share = self.weights[place] / total
            if not share > 0.0:
                return False
            vote = log(share)
            for feature in range(self.features):
                one = &self.gaussians[place * self.features + feature]
                if not (self.present[feature] and one.spread):
                    continue
                far = self.values[feature] - one.mean
                size = fabs(far)
                if not (size == 0.0 or 1e-150 <= size <= HUGE):  # River raises where the square is infinite
                    return False
                density = pow(far, self.two) / one.twice - HALF_LOG_TAU - one.half_log
                if density > -INFINITY:
                    vote += density
            self.votes[place] = vote
        most = self.votes[self.first_of_most(self.votes, 1.0)]
        total = 0.0
        for place in range(self.classes):
            total += exp(self.votes[place] - most)
        most += log(total)
        for place in range(self.classes):
            self.votes[place] = exp(self.votes[place] - most)
        self.asked = features
        return True

    cdef bint read(self, features) except -1:
        cdef Py_ssize_t feature
        cdef PyObject *given
        if type(features) is not dict:
            return False
        for feature in range(self.features):
            given = PyDict_GetItemWithError(features, self.names[feature])
            self.present[feature] = given is not NULL
            if given is not NULL and not (number_of(given, &self.values[feature]) and fabs(self.values[feature]) < HUGE):
                return False
        return True


cdef inline void prepare(Gaussian *one) noexcept nogil:
    """What `log_pdf` needs of the variance."""
    cdef double freedom = one.count - 1.0, variance
    one.spread = False
    if freedom > 0.0:
        variance = one.squares / freedom
        if variance > 0.0:
            one.spread, one.twice, one.half_log = True, -2.0 * variance, 0.5 * log(variance)


cdef double exact(given) except? -1.0:
    cdef double value = 0.0
    if not number_of(<PyObject *> given, &value) or not isfinite(value):
        raise ValueError("a number that is none to take")
    return value


def way(node, features):
    parent = None
    while type(node) is BRANCH:
        value = features.get(node.feature)
        if value is None:
            return None, None
        parent, children = node, node.children
        if type(children) is not list or len(children) != 2:
            return None, None  # a state that nobody made by learning: nothing here looks whether a place is there
        node = children[0 if value <= node.threshold else 1]
    return node, parent
