# cython: language_level=3, boundscheck=False, wraparound=False
"""`Encoder.encode` of scores and outcomes as most are, and `plain_framed` of `encode`, compiled: to the same bytes."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from libc.string cimport memcpy

from driftline.codec.slot cimport slot, slot_of

from msgspec import UNSET

from driftline.codec.encode import KEY_BYTES_MAX, RANK, Message, plain_framed
from driftline.codec.value import OutcomeValue, ScoreValue, shown, to_json, written
from driftline.core.output import ModelVersion, Outcome, Prediction, Score
from driftline.core.record import Source

cdef extern from *:
    """
    static inline char *packed(char *at, unsigned long long number, int size) {
        for (int place = size - 1; place >= 0; place--, number >>= 8) at[place] = (char)(number & 0xff);
        return at + size;
    }
    """
    char *packed(char *at, unsigned long long number, int size)  # the greatest byte first

cdef object unset = UNSET, score_type = Score, outcome_type = Outcome, source_type = Source, message_type = Message
cdef object prediction_type = Prediction, version_type = ModelVersion
cdef object score_value = ScoreValue, outcome_value = OutcomeValue, json_of = to_json, shown_of = shown
cdef object written_of = written, plain = plain_framed
cdef Py_ssize_t key_max = KEY_BYTES_MAX
cdef dict ranks = RANK
cdef Py_ssize_t FRAME = 21  # bytes, as `encode` packs it

cdef struct OfScore:
    Py_ssize_t output_id, source, event_id, time_ms, prediction, decision, guard, version, learned
    Py_ssize_t tripped, forecast, budget

cdef struct OfOutcome:
    Py_ssize_t output_id, kind, key, stamp_ms, event_id, event_time_ms, features, prediction, version, label
    Py_ssize_t label_time_ms, detail, previous_label, partition, unserved, judged, priced

cdef OfScore of_score = OfScore(
    output_id=slot_of(Score, "output_id"),
    source=slot_of(Score, "source"),
    event_id=slot_of(Score, "event_id"),
    time_ms=slot_of(Score, "time_ms"),
    prediction=slot_of(Score, "prediction"),
    decision=slot_of(Score, "decision"),
    guard=slot_of(Score, "guard"),
    version=slot_of(Score, "version"),
    learned=slot_of(Score, "learned"),
    tripped=slot_of(Score, "tripped"),
    forecast=slot_of(Score, "forecast"),
    budget=slot_of(Score, "budget"),
)
cdef OfOutcome of_outcome = OfOutcome(
    output_id=slot_of(Outcome, "output_id"),
    kind=slot_of(Outcome, "kind"),
    key=slot_of(Outcome, "key"),
    stamp_ms=slot_of(Outcome, "stamp_ms"),
    event_id=slot_of(Outcome, "event_id"),
    event_time_ms=slot_of(Outcome, "event_time_ms"),
    features=slot_of(Outcome, "features"),
    prediction=slot_of(Outcome, "prediction"),
    version=slot_of(Outcome, "version"),
    label=slot_of(Outcome, "label"),
    label_time_ms=slot_of(Outcome, "label_time_ms"),
    detail=slot_of(Outcome, "detail"),
    previous_label=slot_of(Outcome, "previous_label"),
    partition=slot_of(Outcome, "partition"),
    unserved=slot_of(Outcome, "unserved"),
    judged=slot_of(Outcome, "judged"),
    priced=slot_of(Outcome, "priced"),
)
cdef Py_ssize_t label_at = slot_of(Prediction, "label"), probabilities_at = slot_of(Prediction, "probabilities")
cdef Py_ssize_t value_at = slot_of(Prediction, "value")
cdef Py_ssize_t generation_at = slot_of(ModelVersion, "generation"), learned_at = slot_of(ModelVersion, "learned")
cdef Py_ssize_t source_partition_at = slot_of(Source, "partition"), source_key_at = slot_of(Source, "key")
cdef Py_ssize_t source_time_at = slot_of(Source, "record_time_ms")
cdef Py_ssize_t message_key_at = slot_of(Message, "key"), message_value_at = slot_of(Message, "value")
cdef Py_ssize_t message_time_at = slot_of(Message, "timestamp_ms"), message_headers_at = slot_of(Message, "headers")
cdef Py_ssize_t message_kind_at = slot_of(Message, "kind")


cdef class Writer:
    """Writes outputs in order.

    Args:
        terms: `encode.Terms` of the pipeline.
        encode: of `Encoder`, for whatever is not as most are.
    """

    cdef object encode, pipeline, scores, outcomes, form, score_places, outcome_places
    cdef Py_ssize_t value_max

    def __init__(self, terms, encode):
        self.encode = encode
        self.pipeline, self.scores, self.outcomes, self.form = terms.pipeline, terms.scores, terms.outcomes, terms.features
        self.score_places, self.outcome_places, self.value_max = terms.score_places, terms.outcome_places, terms.value_max

    def encode_all(self, outputs):
        cdef list made = []
        for output in outputs:
            kind, message = type(output), None
            if kind is score_type:
                message = self.score(output)
            elif kind is outcome_type:
                message = self.outcome(output)
            made.append(self.encode(output) if message is None else message)
        return made

    cdef object score(self, object score):
        """Its message; None where it says more than most."""
        source, prediction = <object> slot(score, of_score.source), <object> slot(score, of_score.prediction)
        version, decision = <object> slot(score, of_score.version), <object> slot(score, of_score.decision)
        if <object> slot(score, of_score.tripped) or slot(score, of_score.forecast) is not <PyObject *> None:
            return None
        if slot(score, of_score.budget) is not <PyObject *> None or type(source) is not source_type:
            return None
        if type(prediction) is not prediction_type or type(version) is not version_type:
            return None
        predicted, probability, probabilities = stands(prediction)
        value = json_of(score_value(
            <object> slot(score, of_score.output_id),
            self.pipeline,
            <object> slot(score, of_score.event_id),
            <object> slot(score, of_score.time_ms),
            <object> slot(score, of_score.guard),
            text_of(version),
            <object> slot(score, of_score.learned),
            predicted,
            probability,
            probabilities,
            unset if decision is None else decision,
        ))
        time_ms = <object> slot(source, source_time_at)
        return self.message(
            self.scores,
            place(self.score_places, <object> slot(source, source_partition_at)),
            <object> slot(source, source_key_at),
            value,
            time_ms if time_ms > 0 else 0,
            "scores",
        )

    cdef object outcome(self, object outcome):
        """Its message; None where it says more than most, or less."""
        prediction, version = <object> slot(outcome, of_outcome.prediction), <object> slot(outcome, of_outcome.version)
        features, label = <object> slot(outcome, of_outcome.features), <object> slot(outcome, of_outcome.label)
        if type(prediction) is not prediction_type or type(version) is not version_type or type(features) is not tuple:
            return None
        if slot(outcome, of_outcome.detail) is not <PyObject *> None or <object> slot(outcome, of_outcome.unserved):
            return None
        if slot(outcome, of_outcome.judged) is not <PyObject *> None or <object> slot(outcome, of_outcome.priced):
            return None
        if slot(outcome, of_outcome.previous_label) is not <PyObject *> None:
            return None
        event_time_ms, label_time_ms = (
            <object> slot(outcome, of_outcome.event_time_ms), <object> slot(outcome, of_outcome.label_time_ms)
        )
        if event_time_ms is None or label_time_ms is None or label is None:
            return None
        predicted, probability, probabilities = stands(prediction)
        value = json_of(outcome_value(
            <object> slot(outcome, of_outcome.output_id),
            self.pipeline,
            <object> slot(outcome, of_outcome.kind),
            <object> slot(outcome, of_outcome.event_id),
            unset,
            event_time_ms,
            self.form(*<tuple> features),
            predicted,
            probability,
            probabilities,
            text_of(version),
            written_of(label) if type(label) is float else label,
            unset,
            label_time_ms,
            label_time_ms - event_time_ms,
        ))
        return self.message(
            self.outcomes,
            place(self.outcome_places, <object> slot(outcome, of_outcome.partition)),
            <object> slot(outcome, of_outcome.key),
            value,
            <object> slot(outcome, of_outcome.stamp_ms),
            "outcomes",
        )

    cdef object message(self, object topic, object partition, object key, object value, object time_ms, object kind):
        """None where the value is too large."""
        if PyBytes_GET_SIZE(value) > self.value_max:
            return None
        if key is not None and len(key) > key_max:
            key = None
        return message_type(topic, partition, key, value, time_ms, (), kind)


cdef inline tuple stands(object prediction):
    """`value.shown`, mostly without a call."""
    label, value = <object> slot(prediction, label_at), <object> slot(prediction, value_at)
    if slot(prediction, probabilities_at) is <PyObject *> None or value is None or type(label) is float:
        return shown_of(prediction)
    return label, value, unset


cdef inline str text_of(object version):
    cdef object generation = <object> slot(version, generation_at), learned = <object> slot(version, learned_at)
    return f"{generation}.{learned}"


cdef inline object place(object places, object partition):
    cdef PyObject *found = PyDict_GetItem(places, partition)
    return places[partition] if found is NULL else <object> found


def framed(list messages not None):
    """`plain_framed`, in one piece."""
    cdef Py_ssize_t size = 0, whole = 0
    cdef char *at
    cdef PyObject *key
    cdef PyObject *value
    for message in messages:
        if type(message) is not message_type or <object> slot(message, message_headers_at):
            return plain(messages)
        key, value = slot(message, message_key_at), slot(message, message_value_at)
        if not PyBytes_CheckExact(<object> value) or not (key is <PyObject *> None or PyBytes_CheckExact(<object> key)):
            return plain(messages)
        if not PyLong_CheckExact(<object> slot(message, message_time_at)):
            return plain(messages)
        size += PyBytes_GET_SIZE(<object> value)
        whole += FRAME + (0 if key is <PyObject *> None else PyBytes_GET_SIZE(<object> key))
    made = PyBytes_FromStringAndSize(NULL, whole + size)
    at = PyBytes_AS_STRING(made)
    for message in messages:
        key, value = slot(message, message_key_at), slot(message, message_value_at)
        at = packed(at, <unsigned char> ranks[<object> slot(message, message_kind_at)], 1)
        at = packed(at, <unsigned long long> <long long> <object> slot(message, message_time_at), 8)
        at = packed(at, <unsigned long long> (-1 if key is <PyObject *> None else PyBytes_GET_SIZE(<object> key)), 4)
        at = packed(at, PyBytes_GET_SIZE(<object> value), 4)
        at = packed(at, 0, 4)
        if key is not <PyObject *> None:
            memcpy(at, PyBytes_AS_STRING(<object> key), PyBytes_GET_SIZE(<object> key))
            at += PyBytes_GET_SIZE(<object> key)
        memcpy(at, PyBytes_AS_STRING(<object> value), PyBytes_GET_SIZE(<object> value))
        at += PyBytes_GET_SIZE(<object> value)
    return made, size
