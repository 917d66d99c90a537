#include "reads.h"

#include "keys.h"
#include "native.h"

int call_begin(Call *call, Reads *reads, PyObject *now6)
{
    if (!PyBytes_Check(now6) || PyBytes_GET_SIZE(now6) != EXPIRY_BYTES) {
        PyErr_Format(PyExc_ValueError, "a time is %d bytes, not %R", EXPIRY_BYTES, now6);
        return -1;
    }
    *call = (Call){.reads = reads, .now = (const uint8_t *)PyBytes_AS_STRING(now6)};
    return 0;
}

/* Returns the partition of a key, -1 if reads of it are not answered here. */
static Py_ssize_t partition_of(const Reads *reads, PyObject *key)
{
    Py_ssize_t partition = partition_of_key(key, reads->seed);
    int ours = partition < PyByteArray_GET_SIZE(reads->readable) && partition < PyList_GET_SIZE(reads->tables) &&
               PyByteArray_AS_STRING(reads->readable)[partition];
    return ours ? partition : -1;
}

/* Returns the live entry of a key in one of the rows of its table, and counts its use. `*found` says whether any is there. */
static Entry *look_in(Call *call, PyObject *table, PyObject *name, PyObject *key, int *found)
{
    *found = 0;
    struct rows *rows = rows_in(table, name, call->reads->rows_type);
    if (rows == NULL) {
        return NULL;
    }
    Py_ssize_t at = rows_of_key(rows, key);
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
