/* `Reads` as Python sees it; `kvcache.service.reads` says what it promises. Never here: how it is done (`reads.c`). */

#include "native.h"
#include "reads.h"

static PyObject *answer_for(PyObject *self, PyObject *args)
{
    Reads *reads = (Reads *)self;
    PyObject *readable;
    unsigned seed;
    if (!PyArg_ParseTuple(args, "O!I:answer_for", &PyByteArray_Type, &readable, &seed)) {
        return NULL;
    }
    Py_SETREF(reads->readable, Py_NewRef(readable));
    reads->seed = seed;
    Py_RETURN_NONE;
}

/* Answers messages from `at` on; returns the index of the first that is for somebody else, -1 with an exception set. */
static Py_ssize_t answer_run(Call *call, PyObject *messages, Py_ssize_t at)
{
    for (; at < PyList_GET_SIZE(messages); at++) {
        int answered = answer_one(call, PyList_GET_ITEM(messages, at));
        if (answered != 1) {
            return answered < 0 ? -1 : at;
        }
    }
    return at;
}

static PyObject *answer(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Reads *reads = (Reads *)self;
    if (count != 3 || !PyList_CheckExact(args[0]) || !PyLong_CheckExact(args[1])) {
        return PyErr_Format(PyExc_TypeError, "answer(messages: list, start: int, now6: bytes)");
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    if (start < 0 || start >= PyList_GET_SIZE(args[0])) {
        return PyErr_Format(PyExc_IndexError, "no message %zd of %zd", start, PyList_GET_SIZE(args[0]));
    }
    Call call;
    if (call_begin(&call, reads, args[2]) < 0) {
        return NULL;
    }
    Py_ssize_t end = answer_run(&call, args[0], start);
    if (end < 0) {
        replies_free(&reads->replies);
        return NULL;
    }
    if (end == start) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("Nnn", replies_take(&reads->replies), end, call.hits);
}

static PyObject *record_or_none(Call *call, PyObject *key, Py_ssize_t *room)
{
    Entry *entry = *room > 0 ? look_up(call, key) : NULL;
    if (entry == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    *room -= entry->record_size;
    return PyBytes_FromStringAndSize((const char *)entry_record(entry), entry->record_size);
}

static PyObject *find_many(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyTuple_CheckExact(args[0]) || !PyLong_CheckExact(args[1]) || !PyLong_CheckExact(args[3])) {
        return PyErr_Format(PyExc_TypeError, "find_many(keys: tuple, start: int, now6: bytes, room: int)");
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]), room = PyLong_AsSsize_t(args[3]), end = PyTuple_GET_SIZE(args[0]);
    if (start < 0 || start > end || PyErr_Occurred()) {
        return PyErr_Format(PyExc_IndexError, "no key %zd of %zd", start, end);
    }
    Call call;
    if (call_begin(&call, (Reads *)self, args[2]) < 0) {
        return NULL;
    }
    PyObject *records = PyList_New(end - start);
    for (Py_ssize_t at = start; records != NULL && at < end; at++) {
        PyObject *record = record_or_none(&call, PyTuple_GET_ITEM(args[0], at), &room);
        if (record == NULL) {
            Py_CLEAR(records);
        }
        else {
            PyList_SET_ITEM(records, at - start, record);
        }
    }
    return records == NULL ? NULL : Py_BuildValue("Nn", records, call.hits);
}

/* The object */

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tables", "missed", "get", "ok", "miss", NULL};
    PyObject *tables, *missed;
    unsigned char get, ok, miss;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O$bbb:Reads", names, &PyList_Type, &tables, &missed, &get, &ok,
                                     &miss)) {
        return NULL;
    }
    Reads *reads = (Reads *)type->tp_alloc(type, 0);
    if (reads == NULL) {
        return NULL;
    }
    NativeState *state = PyType_GetModuleState(type);
    reads->rows_type = (PyTypeObject *)Py_NewRef((PyObject *)state->rows_type);
    reads->tables = Py_NewRef(tables);
    reads->missed = Py_NewRef(missed);
    reads->get = get;
    reads->ok = ok;
    reads->miss = miss;
    reads->readable = PyByteArray_FromStringAndSize(NULL, 0);
    reads->main_name = PyUnicode_InternFromString("main");
    reads->small_name = PyUnicode_InternFromString("small");
    if (reads->readable == NULL || reads->main_name == NULL || reads->small_name == NULL) {
        Py_CLEAR(reads);
    }
    return (PyObject *)reads;
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    Reads *reads = (Reads *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(reads->rows_type);
    Py_VISIT(reads->tables);
    Py_VISIT(reads->missed);
    Py_VISIT(reads->readable);
    return 0;
}

static int clear(PyObject *self)
{
    Reads *reads = (Reads *)self;
    Py_CLEAR(reads->rows_type);
    Py_CLEAR(reads->tables);
    Py_CLEAR(reads->missed);
    Py_CLEAR(reads->readable);
    return 0;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Reads *reads = (Reads *)self;
    PyObject_GC_UnTrack(self);
    clear(self);
    Py_XDECREF(reads->main_name);
    Py_XDECREF(reads->small_name);
    replies_free(&reads->replies);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"answer_for", answer_for, METH_VARARGS,
     "Answer reads of the partitions that a bytearray marks, by the seed of their cluster."},
    {"answer", (PyCFunction)(void (*)(void))answer, METH_FASTCALL,
     "Answer GETs up to the first message that is for somebody else; return replies, its index, and hits, or None."},
    {"find_many", (PyCFunction)(void (*)(void))find_many, METH_FASTCALL,
     "Return the live records of keys, None for each that has none or needs a refusal; and hits."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc, "The GETs of a node, from messages to replies; see kvcache.service.reads.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_clear, clear},
    {Py_tp_traverse, traverse},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec reads_spec = {
    .name = "kvcache.compiled.native.Reads",
    .basicsize = sizeof(Reads),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
