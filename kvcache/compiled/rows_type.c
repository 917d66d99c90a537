/* `Rows` as Python sees it; the methods are those of `kvcache.store.rows.Rows`. Never here: how it is done (`rows.c`). */

#include "native.h"

static inline struct rows *rows_of(PyObject *self)
{
    return &((RowsObject *)self)->rows;
}

struct rows *rows_in(PyObject *table, PyObject *name, PyTypeObject *type)
{
    PyObject *object = PyObject_GetAttr(table, name);
    if (object == NULL) {
        return NULL;
    }
    Py_DECREF(object); /* the table keeps it */
    if (!Py_IS_TYPE(object, type)) {
        PyErr_Format(PyExc_TypeError, "%U of a table is %.100s, not Rows", name, Py_TYPE(object)->tp_name);
        return NULL;
    }
    return rows_of(object);
}

/* Returns the index of a key, -1 if there is none, -2 with an exception set if it is no bytes. */
static Py_ssize_t index_of(PyObject *self, PyObject *key)
{
    if (!PyBytes_Check(key)) {
        PyErr_Format(PyExc_TypeError, "a key is bytes, not %.100s", Py_TYPE(key)->tp_name);
        return -2;
    }
    return rows_of_key(rows_of(self), key);
}

/* The same for a key that must be there: -1 with an exception set otherwise. */
static Py_ssize_t index_in(PyObject *self, PyObject *key)
{
    Py_ssize_t at = index_of(self, key);
    if (at == -1) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return at < 0 ? -1 : at;
}

static PyObject *key_object(Entry *entry)
{
    return PyBytes_FromStringAndSize((const char *)entry->bytes, entry->key_size);
}

static PyObject *record_object(Entry *entry)
{
    return PyBytes_FromStringAndSize((const char *)entry_record(entry), entry->record_size);
}

static PyObject *pair_object(Entry *entry)
{
    PyObject *key = key_object(entry), *record = record_object(entry);
    return Py_BuildValue("NN", key, record); /* a tuple: from here on the entry may be gone */
}

/* Before Python 3.12 the collector runs whenever a tuple or list is made, and finalisers may change the rows: nothing that was
 * read before that is trusted after it. */
static PyObject *list_of(PyObject *self, PyObject *(*object)(Entry *))
{
    const struct rows *rows = rows_of(self);
    PyObject *list = PyList_New(0);
    for (uint32_t done = 0; list != NULL && done < rows_count(rows); done++) {
        PyObject *item = object(rows->slots[rows->first + done].entry);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

/* The mapping */

static Py_ssize_t length(PyObject *self)
{
    return (Py_ssize_t)rows_count(rows_of(self));
}

static int contains(PyObject *self, PyObject *key)
{
    Py_ssize_t at = index_of(self, key);
    return at == -2 ? -1 : at >= 0;
}

static PyObject *subscript(PyObject *self, PyObject *key)
{
    Py_ssize_t at = index_in(self, key);
    return at < 0 ? NULL : record_object(rows_of(self)->slots[at].entry);
}

static int assign(PyObject *self, PyObject *key, PyObject *record)
{
    Py_ssize_t at = record == NULL ? index_in(self, key) : index_of(self, key);
    if (at == -2 || (record == NULL && at < 0)) {
        return -1;
    }
    if (record == NULL) {
        rows_drop(rows_of(self), at);
        return 0;
    }
    if (!PyBytes_Check(record)) {
        PyErr_Format(PyExc_TypeError, "a record is bytes, not %.100s", Py_TYPE(record)->tp_name);
        return -1;
    }
    return at < 0 ? rows_append(rows_of(self), key, record, 0) : rows_replace(rows_of(self), at, key, record);
}

static PyObject *get(PyObject *self, PyObject *key)
{
    Py_ssize_t at = index_of(self, key);
    if (at == -1) {
        Py_RETURN_NONE;
    }
    return at < 0 ? NULL : record_object(rows_of(self)->slots[at].entry);
}

static PyObject *read_record(PyObject *self, PyObject *key)
{
    Py_ssize_t at = index_of(self, key);
    if (at == -1) {
        Py_RETURN_NONE;
    }
    if (at == -2) {
        return NULL;
    }
    rows_use(rows_of(self), at);
    return record_object(rows_of(self)->slots[at].entry);
}

static PyObject *uses_of(PyObject *self, PyObject *key)
{
    Py_ssize_t at = index_of(self, key);
    return at == -2 ? NULL : PyLong_FromLong(at < 0 ? 0 : (long)rows_uses(rows_of(self), at));
}

static PyObject *pop(PyObject *self, PyObject *key)
{
    Py_ssize_t at = index_in(self, key);
    PyObject *record = at < 0 ? NULL : record_object(rows_of(self)->slots[at].entry);
    if (record != NULL) {
        rows_drop(rows_of(self), at);
    }
    return record;
}

static PyObject *pop_oldest(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct rows *rows = rows_of(self);
    PyObject *popped = PyTuple_New(3); /* before anything is looked at, see `list_of` */
    if (popped == NULL) {
        return NULL;
    }
    if (!rows_count(rows)) {
        Py_DECREF(popped);
        PyErr_SetString(PyExc_KeyError, "no record is left");
        return NULL;
    }
    Entry *entry = rows->slots[rows->first].entry;
    PyTuple_SET_ITEM(popped, 0, key_object(entry));
    PyTuple_SET_ITEM(popped, 1, record_object(entry));
    PyTuple_SET_ITEM(popped, 2, PyLong_FromLong((long)rows_uses(rows, rows->first)));
    if (PyTuple_GET_ITEM(popped, 0) == NULL || PyTuple_GET_ITEM(popped, 1) == NULL || PyTuple_GET_ITEM(popped, 2) == NULL) {
        Py_DECREF(popped);
        return NULL;
    }
    rows_drop(rows, rows->first);
    return popped;
}

static PyObject *append(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyBytes_Check(args[0]) || !PyBytes_Check(args[1]) || !PyLong_Check(args[2])) {
        return PyErr_Format(PyExc_TypeError, "append(key: bytes, record: bytes, uses: int)");
    }
    long uses = PyLong_AsLong(args[2]);
    if (uses < 0 || uses > MAX_USES) {
        return PyErr_Format(PyExc_ValueError, "uses are 0 to %d, not %R", MAX_USES, args[2]);
    }
    Py_ssize_t at = index_of(self, args[0]);
    if (at >= 0) {
        return PyErr_Format(PyExc_KeyError, "%R is there already", args[0]);
    }
    return rows_append(rows_of(self), args[0], args[1], (unsigned)uses) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *iter(PyObject *self)
{
    PyObject *keys = list_of(self, key_object);
    PyObject *iterator = keys == NULL ? NULL : PyObject_GetIter(keys);
    Py_XDECREF(keys);
    return iterator;
}

static PyObject *items(PyObject *self, PyObject *Py_UNUSED(none))
{
    return list_of(self, pair_object);
}

static PyObject *values(PyObject *self, PyObject *Py_UNUSED(none))
{
    return list_of(self, record_object);
}

static PyObject *clear(PyObject *self, PyObject *Py_UNUSED(none))
{
    rows_clear(rows_of(self));
    Py_RETURN_NONE;
}

/* Time */

static PyObject *due(PyObject *self, PyObject *args)
{
    const struct rows *rows = rows_of(self);
    const char *now;
    Py_ssize_t size, most;
    if (!PyArg_ParseTuple(args, "y#n:due", &now, &size, &most)) {
        return NULL;
    }
    if (size != EXPIRY_BYTES) {
        return PyErr_Format(PyExc_ValueError, "a time is %d bytes, not %zd", EXPIRY_BYTES, size);
    }
    PyObject *keys = PyList_New(0);
    for (uint32_t at = rows->first; keys != NULL && at < rows->end && PyList_GET_SIZE(keys) < most; at++) {
        if (!entry_is_due(rows->slots[at].entry, (const uint8_t *)now)) {
            continue;
        }
        PyObject *key = key_object(rows->slots[at].entry);
        if (key == NULL || PyList_Append(keys, key) < 0) {
            Py_CLEAR(keys);
        }
        Py_XDECREF(key);
    }
    return keys;
}

static PyObject *times(PyObject *self, PyObject *args)
{
    const struct rows *rows = rows_of(self);
    long long first, end;
    if (!PyArg_ParseTuple(args, "LL:times", &first, &end)) {
        return NULL;
    }
    PyObject *found = PySet_New(NULL);
    for (uint32_t at = rows->first; found != NULL && at < rows->end; at++) {
        int64_t time = entry_expiry_ms(rows->slots[at].entry);
        if (time < 0 || time < first || time >= end) {
            continue;
        }
        PyObject *number = PyLong_FromLongLong(time);
        if (number == NULL || PySet_Add(found, number) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(number);
    }
    return found;
}

/* Room */

static PyObject *size_of(PyObject *self, PyObject *Py_UNUSED(none))
{
    const struct rows *rows = rows_of(self);
    return PyLong_FromSize_t(block_bytes(sizeof(RowsObject)) + (rows->capacity ? arena_cost(0, rows_size(rows)) : 0));
}

static PyObject *tighten(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    Py_RETURN_NONE; /* to grow takes only a sixteenth in advance */
}

static PyObject *compact(PyObject *self, PyObject *Py_UNUSED(none))
{
    return rows_compact(rows_of(self)) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *cost_of(PyObject *Py_UNUSED(none), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(args[0]) || !PyBytes_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "cost_of(key: bytes, record: bytes)");
        return NULL;
    }
    return PyLong_FromSize_t(arena_cost((size_t)PyBytes_GET_SIZE(args[0]), (size_t)PyBytes_GET_SIZE(args[1])));
}

/* The object */

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"arena", NULL};
    NativeState *state = PyType_GetModuleState(type);
    PyObject *arena;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Rows", names, state->arena_type, &arena)) {
        return NULL;
    }
    RowsObject *object = (RowsObject *)type->tp_alloc(type, 0); /* all zero */
    if (object == NULL) {
        return NULL;
    }
    object->rows.arena = &((ArenaObject *)arena)->arena;
    object->rows.owner = arena_enter(object->rows.arena, &object->rows);
    if (object->rows.owner == UINT32_MAX) {
        Py_DECREF(object);
        return NULL;
    }
    object->arena = Py_NewRef(arena);
    return (PyObject *)object;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    RowsObject *object = (RowsObject *)self;
    if (object->arena != NULL) {
        rows_clear(&object->rows);
        arena_leave(object->rows.arena, object->rows.owner);
        Py_DECREF(object->arena);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *repr(PyObject *self)
{
    return PyUnicode_FromFormat("<Rows %zd records>", length(self));
}

static PyMethodDef methods[] = {
    {"get", get, METH_O, "Return the record of a key, or None."},
    {"read", read_record, METH_O, "Return the record of a key, or None; count a use."},
    {"uses_of", uses_of, METH_O, "Return how often the record of a key was used; 0 if there is none."},
    {"append", (PyCFunction)(void (*)(void))append, METH_FASTCALL,
     "Keep the record of a key that has none behind all others, as one that was used so often."},
    {"pop", pop, METH_O, "Take out and return the record of a key. Raises KeyError."},
    {"pop_oldest", pop_oldest, METH_NOARGS, "Take out what came first; return its key, its record and its uses. Raises KeyError."},
    {"items", items, METH_NOARGS, "Return keys with their records, oldest first."},
    {"values", values, METH_NOARGS, "Return the records, oldest first."},
    {"clear", clear, METH_NOARGS, "Take out everything."},
    {"due", due, METH_VARARGS, "Return up to so many keys whose records expire at a time or before."},
    {"times", times, METH_VARARGS, "Return at which times of a range records expire."},
    {"tighten", tighten, METH_NOARGS, "Give back room that was taken in advance: there is none."},
    {"compact", compact, METH_NOARGS, "Give back room if most of it is unused."},
    {"cost_of", (PyCFunction)(void (*)(void))cost_of, METH_FASTCALL | METH_STATIC,
     "Return what a record and its key take, in bytes."},
    {"__sizeof__", size_of, METH_NOARGS, "Return the bytes taken, without records and keys."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc, "Records by their keys, in the order of arrival; see kvcache.store.rows.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_repr, repr},
    {Py_tp_iter, iter},
    {Py_tp_methods, methods},
    {Py_mp_length, length},
    {Py_mp_subscript, subscript},
    {Py_mp_ass_subscript, assign},
    {Py_sq_contains, contains},
    {0, NULL},
};

PyType_Spec rows_spec = {
    .name = "kvcache.compiled.native.Rows",
    .basicsize = sizeof(RowsObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
