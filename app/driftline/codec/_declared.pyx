# cython: language_level=3, boundscheck=False, wraparound=False
"""`Decoder.event` and `Decoder.label` of records as the pipeline declares them, compiled: to the same events and labels."""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM

from driftline.codec.slot cimport slot, slot_of

import msgspec

from driftline.codec.declared import REST, SURPLUS_MAX
from driftline.core.pipeline.target import TargetError
from driftline.core.record import Event, Label, Source

cdef object event_type = Event, label_type = Label, source_type = Source
cdef object target_error = TargetError, msgspec_error = msgspec.MsgspecError
cdef Py_ssize_t value_at = slot_of(Source, "value"), record_time_at = slot_of(Source, "record_time_ms")
cdef long long LEAST_MS = 10**12, MOST_MS = 10**13  # `_MILLIS` of `decode`
cdef Py_ssize_t surplus_max = SURPLUS_MAX, rest_of = REST


cdef class Reader:
    """Reads events, or labels.

    Args:
        declared: `declared.Declared` of their input.
        other: of `Decoder`, for any other record. It rests as `declared._Reader` does where it mostly fails.
        arrange: of events, what makes features and context of the values, where some are computed.
        target: of labels, what a value means.
        from_text: of labels, whether texts are read first.
    """

    cdef object decode, other, arrange, target
    cdef Py_ssize_t bytes_max, surplus, rest, count
    cdef Py_ssize_t *places
    cdef long long ahead_max_ms
    cdef bint timed, from_text, ahead

    def __cinit__(self, declared, other, arrange=None, target=None, from_text=False):
        names = declared.form.__struct_fields__
        self.count = len(names)
        self.places = <Py_ssize_t *> PyMem_Malloc(self.count * sizeof(Py_ssize_t))
        if self.places is NULL:
            raise MemoryError
        for number, name in enumerate(names):
            self.places[<Py_ssize_t> number] = slot_of(declared.form, name)
        self.decode = msgspec.json.Decoder(declared.form).decode
        self.bytes_max, self.timed, self.ahead_max_ms = declared.bytes_max, declared.timed, declared.ahead_max_ms
        self.other, self.arrange, self.target, self.from_text = other, arrange, target, from_text

    def __dealloc__(self):
        PyMem_Free(self.places)

    def event(self, source):
        cdef Py_ssize_t first = 2 if self.timed else 1, number
        cdef tuple values
        found = self.read(source)
        time_ms = None if found is None else self.time(found, source)
        if time_ms is None:
            return self.other(source)
        values = PyTuple_New(self.count - first)
        for number in range(first, self.count):
            value = <object> slot(found, self.places[number])
            Py_INCREF(value)
            PyTuple_SET_ITEM(values, number - first, value)
        ahead, order_ms = self.ahead, <object> slot(source, record_time_at) if self.ahead else time_ms
        event_id = <object> slot(found, self.places[0])
        if self.arrange is None:
            return event_type(source, order_ms, time_ms, event_id, values, ahead, 0)
        features, context = self.arrange(values)
        return event_type(source, order_ms, time_ms, event_id, features, ahead, 0, context)

    def label(self, source):
        found = self.read(source)
        time_ms = None if found is None else self.time(found, source)
        if time_ms is None:
            return self.other(source)
        ahead, order_ms = self.ahead, <object> slot(source, record_time_at) if self.ahead else time_ms
        value = <object> slot(found, self.places[self.count - 1])
        if self.from_text and type(value) is str:
            return self.other(source)
        try:
            value = self.target(value)
        except target_error:
            return self.other(source)
        return label_type(source, order_ms, time_ms, <object> slot(found, self.places[0]), value, ahead)

    cdef object read(self, object source):
        """The record, read; None where it is not as declared."""
        if self.rest:
            self.rest -= 1
            return None
        if type(source) is not source_type:
            return None
        value = <object> slot(source, value_at)
        if not PyBytes_CheckExact(value) or PyBytes_GET_SIZE(value) > self.bytes_max:
            return None
        try:
            found = self.decode(value)
        except (msgspec_error, UnicodeDecodeError):
            self.surplus += 1
            if self.surplus >= surplus_max:
                self.surplus, self.rest = 0, rest_of
            return None
        if self.surplus:
            self.surplus -= 1
        return found

    cdef object time(self, object found, object source):
        """Event time, and in `ahead` whether it lies too far ahead; None where that takes a longer look."""
        cdef int beyond = 0
        cdef long long record_ms, time_ms
        record_time_ms = <object> slot(source, record_time_at)
        if not PyLong_CheckExact(record_time_ms):
            return None
        record_ms = PyLong_AsLongLongAndOverflow(record_time_ms, &beyond)
        if beyond:
            return None
        self.ahead = False
        if not self.timed:
            return None if record_ms < 0 else record_time_ms
        given = <object> slot(found, self.places[1])
        if not PyLong_CheckExact(given):
            return None
        time_ms = PyLong_AsLongLongAndOverflow(given, &beyond)
        if beyond or not LEAST_MS <= time_ms < MOST_MS:
            return None
        self.ahead = record_ms >= 0 and time_ms - record_ms > self.ahead_max_ms
        return given
