"""The fields of msgspec's structs, read where they lie: an attribute by its name takes ten times as long from compiled code.

Where a class keeps a field is asked of it by name, at the import, which fails where the class has no slots.
"""

from cpython.object cimport PyObject

cdef extern from *:
    """
    #include <structmember.h>

    static CYTHON_UNUSED Py_ssize_t slot_of(PyObject *kind, PyObject *name) {
        PyObject *found = PyObject_GetAttr(kind, name);
        if (found == NULL) return -1;
        Py_ssize_t offset = -1;
        if (Py_IS_TYPE(found, &PyMemberDescr_Type)) {
            PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
            if (member->type == T_OBJECT_EX) offset = member->offset;
        }
        Py_DECREF(found);
        if (offset < 0) PyErr_Format(PyExc_ImportError, "no slot %U", name);
        return offset;
    }

    static CYTHON_INLINE PyObject *slot(PyObject *one, Py_ssize_t offset) {
        PyObject *found = *(PyObject **)((char *)one + offset);
        return found == NULL ? Py_None : found;
    }
    """
    Py_ssize_t slot_of(object kind, object name) except -1
    PyObject *slot(object one, Py_ssize_t offset)  # borrowed
