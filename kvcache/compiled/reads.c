#include "reads.h"

#include "murmur3.h"
#include "native.h"

enum {
    PARTITION_SHIFT = 50, /* what is left is 14 bits */
    KEY_LIMIT = 1024,
};

int call_begin(Call *call, Reads *reads, PyObject *now6)
{
    if (!PyBytes_Check(now6) || PyBytes_GET_SIZE(now6) != EXPIRY_BYTES) {
        PyErr_Format(PyExc_ValueError, "a time is %d bytes, not %R", EXPIRY_BYTES, now6);
        return -1;
    }
    *call = (Call){.reads = reads, .now = (const uint8_t *)PyBytes_AS_STRING(now6)};
    return 0;
}

static int is_key(PyObject *key)
{
    return PyBytes_CheckExact(key) && PyBytes_GET_SIZE(key) > 0 && PyBytes_GET_SIZE(key) <= KEY_LIMIT;
}

/* Returns the partition of a key, -1 if reads of it are not answered here. */
static Py_ssize_t partition_of(const Reads *reads, PyObject *key)
{
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(key);
    uint64_t hash = murmur3_first_half(bytes, (size_t)PyBytes_GET_SIZE(key), reads->seed);
    Py_ssize_t partition = (Py_ssize_t)(hash >> PARTITION_SHIFT);
    int ours = partition < PyByteArray_GET_SIZE(reads->readable) && partition < PyList_GET_SIZE(reads->tables) &&
               PyByteArray_AS_STRING(reads->readable)[partition];
    return ours ? partition : -1;
}

/* Returns the live entry of a key in one of the rows of its table, and counts its use. `*found` says whether any is there. */
static Entry *look_in(Call *call, PyObject *table, PyObject *name, PyObject *key, int *found)
{
    PyObject *object = PyObject_GetAttr(table, name);
    *found = 0;
    if (object == NULL) {
        return NULL;
    }
    Py_DECREF(object); /* the table keeps it */
    if (!Py_IS_TYPE(object, call->reads->rows_type)) {
        PyErr_Format(PyExc_TypeError, "%U of a table is %.100s, not Rows", name, Py_TYPE(object)->tp_name);
        return NULL;
    }
    struct rows *rows = &((RowsObject *)object)->rows;
    Py_ssize_t at = rows_find(rows, (const uint8_t *)PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key),
                              bytes_hash(key));
    *found = at >= 0;
    if (at < 0) {
        return NULL;
    }
    rows_use(rows, at);
    if (rows->slots[at].entry->record_size < HEADER_BYTES || entry_is_due(rows->slots[at].entry, call->now)) {
        return NULL;
    }
    call->hits++;
    return rows->slots[at].entry;
}

static Entry *look(Call *call, Py_ssize_t partition, PyObject *key)
{
    const Reads *reads = call->reads;
    PyObject *table = PyList_GET_ITEM(reads->tables, partition);
    int found;
    Entry *entry = look_in(call, table, reads->main_name, key, &found);
    return found || PyErr_Occurred() ? entry : look_in(call, table, reads->small_name, key, &found);
}

Entry *look_up(Call *call, PyObject *key)
{
    Py_ssize_t partition = is_key(key) ? partition_of(call->reads, key) : -1;
    return partition < 0 ? NULL : look(call, partition, key);
}

static int is_get(const Reads *reads, PyObject *message)
{
    if (!PyTuple_CheckExact(message) || PyTuple_GET_SIZE(message) != 3) {
        return 0;
    }
    PyObject *number = PyTuple_GET_ITEM(message, 0), *verb = PyTuple_GET_ITEM(message, 1);
    int overflow = 0;
    return PyLong_CheckExact(number) && PyLong_CheckExact(verb) &&
           PyLong_AsLongAndOverflow(verb, &overflow) == (long)reads->get && !overflow &&
           is_key(PyTuple_GET_ITEM(message, 2));
}

static int answer_miss(Reads *reads, uint64_t number, Py_ssize_t partition, PyObject *key)
{
    PyObject *reason = PyObject_CallFunction(reads->missed, "nO", partition, key);
    long field = reason == NULL ? -1 : PyLong_AsLong(reason);
    Py_XDECREF(reason);
    if (field < 0 || field > UINT8_MAX) {
        return PyErr_Occurred() ? -1 : (PyErr_Format(PyExc_ValueError, "a reason is a small number, not %ld", field), -1);
    }
    return replies_add_status(&reads->replies, number, reads->miss, (unsigned)field);
}

int answer_one(Call *call, PyObject *message)
{
    Reads *reads = call->reads;
    if (!is_get(reads, message)) {
        return 0;
    }
    PyObject *key = PyTuple_GET_ITEM(message, 2);
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(PyTuple_GET_ITEM(message, 0), &overflow);
    Py_ssize_t partition = partition_of(reads, key);
    if (number < 0 || overflow || partition < 0) {
        return 0;
    }
    Entry *entry = look(call, partition, key);
    if (entry == NULL && PyErr_Occurred()) {
        return -1;
    }
    int added = entry == NULL ? answer_miss(reads, (uint64_t)number, partition, key)
                              : replies_add_record(&reads->replies, (uint64_t)number, reads->ok, entry_record(entry),
                                                   entry->record_size);
    return added < 0 ? -1 : 1;
}
