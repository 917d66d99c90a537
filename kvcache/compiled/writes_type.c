/* `Writes` as Python sees it; `kvcache.service.writes` says what it promises. Never here: how it is done (`writes.c`). */

#include "native.h"
#include "writes.h"

static PyObject *answer_for(PyObject *self, PyObject *args)
{
    Writes *writes = (Writes *)self;
    PyObject *writable, *changed_at;
    unsigned seed;
    if (!PyArg_ParseTuple(args, "O!O!I:answer_for", &PyBytes_Type, &writable, &PyList_Type, &changed_at, &seed)) {
        return NULL;
    }
    Py_SETREF(writes->writable, Py_NewRef(writable));
    Py_SETREF(writes->changed_at, Py_NewRef(changed_at));
    writes->seed = seed;
    Py_RETURN_NONE;
}

static const uint8_t *fixed_bytes(PyObject *object, const char *name, Py_ssize_t size)
{
    if (!PyBytes_Check(object) || PyBytes_GET_SIZE(object) != size) {
        PyErr_Format(PyExc_ValueError, "%s is %zd bytes, not %R", name, size, object);
        return NULL;
    }
    return (const uint8_t *)PyBytes_AS_STRING(object);
}

static int begin(Round *round, Writes *writes, PyObject *const *args)
{
    round->writes = writes;
    round->grown = 0;
    round->room = PyLong_AsSsize_t(args[5]);
    if (PyErr_Occurred()) {
        return -1;
    }
    round->now = fixed_bytes(args[2], "now6", EXPIRY_BYTES);
    round->floor = round->now == NULL ? NULL : fixed_bytes(args[3], "floor", VERSION_BYTES);
    round->horizon = round->floor == NULL ? NULL : fixed_bytes(args[4], "horizon", VERSION_BYTES);
    return round->horizon == NULL ? -1 : 0;
}

/* Answers messages from `at` on; returns the index of the first that is for somebody else, or failed: then an exception is set. */
static Py_ssize_t answer_run(Round *round, PyObject *messages, Py_ssize_t at)
{
    while (at < PyList_GET_SIZE(messages) && write_one(round, PyList_GET_ITEM(messages, at)) == 1) {
        at++;
    }
    return at;
}

static PyObject *answer(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Writes *writes = (Writes *)self;
    if (count != 6 || !PyList_CheckExact(args[0]) || !PyLong_CheckExact(args[1]) || !PyLong_CheckExact(args[5])) {
        return PyErr_Format(PyExc_TypeError,
                            "answer(messages: list, start: int, now6: bytes, floor: bytes, horizon: bytes, room: int)");
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    if (start < 0 || start >= PyList_GET_SIZE(args[0])) {
        return PyErr_Format(PyExc_IndexError, "no message %zd of %zd", start, PyList_GET_SIZE(args[0]));
    }
    Round round;
    if (begin(&round, writes, args) < 0) {
        return NULL;
    }
    Py_ssize_t end = answer_run(&round, args[0], start);
    if (end == start) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    PyErr_Clear(); /* what was kept must be told of; who comes back with the message that failed hears of it */
    return Py_BuildValue("Nnn", replies_take(&writes->replies), end, round.grown);
}

/* The object */

static int take_plain(Writes *writes, PyObject *plain)
{
    const uint8_t *flags = fixed_bytes(plain, "plain", FLAGS_COUNT);
    if (flags != NULL) {
        memcpy(writes->plain, flags, FLAGS_COUNT);
    }
    return flags == NULL ? -1 : 0;
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tables", "expires", "put", "ok", "limit", "plain", NULL};
    PyObject *tables, *expires, *plain;
    unsigned char put, ok;
    Py_ssize_t limit;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O$bbnO:Writes", names, &PyList_Type, &tables, &expires, &put, &ok,
                                     &limit, &plain)) {
        return NULL;
    }
    Writes *writes = (Writes *)type->tp_alloc(type, 0);
    if (writes == NULL) {
        return NULL;
    }
    NativeState *state = PyType_GetModuleState(type);
    writes->rows_type = (PyTypeObject *)Py_NewRef((PyObject *)state->rows_type);
    writes->tables = Py_NewRef(tables);
    writes->expires = Py_NewRef(expires);
    writes->put = put;
    writes->ok = ok;
    writes->limit = limit;
    writes->writable = PyBytes_FromStringAndSize(NULL, 0);
    writes->changed_at = PyList_New(0);
    writes->main_name = PyUnicode_InternFromString("main");
    writes->small_name = PyUnicode_InternFromString("small");
    if (writes->writable == NULL || writes->changed_at == NULL || writes->main_name == NULL || writes->small_name == NULL ||
        take_plain(writes, plain) < 0) {
        Py_CLEAR(writes);
    }
    return (PyObject *)writes;
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    Writes *writes = (Writes *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(writes->rows_type);
    Py_VISIT(writes->tables);
    Py_VISIT(writes->expires);
    Py_VISIT(writes->changed_at);
    return 0;
}

static int clear(PyObject *self)
{
    Writes *writes = (Writes *)self;
    Py_CLEAR(writes->rows_type);
    Py_CLEAR(writes->tables);
    Py_CLEAR(writes->expires);
    Py_CLEAR(writes->changed_at);
    return 0;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Writes *writes = (Writes *)self;
    PyObject_GC_UnTrack(self);
    clear(self);
    Py_XDECREF(writes->writable);
    Py_XDECREF(writes->main_name);
    Py_XDECREF(writes->small_name);
    replies_free(&writes->replies);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"answer_for", answer_for, METH_VARARGS,
     "Take writes of the partitions that bytes mark, by the seed of their cluster, if routed by the epochs of a list."},
    {"answer", (PyCFunction)(void (*)(void))answer, METH_FASTCALL,
     "Answer PUTs up to the first message that is for somebody else; return replies, its index, and bytes grown, or None."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc, "The PUTs of a node over values, from messages to replies; see kvcache.service.writes.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_clear, clear},
    {Py_tp_traverse, traverse},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec writes_spec = {
    .name = "kvcache.compiled.native.Writes",
    .basicsize = sizeof(Writes),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
