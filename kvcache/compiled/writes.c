#include "writes.h"

#include <string.h>

#include "keys.h"
#include "native.h"

/* What a message asks for. */
typedef struct {
    uint64_t number;
    Py_ssize_t partition;
    PyObject *key, *record;
} Put;

/* Where the value of a key lies. */
typedef struct {
    struct rows *rows; /* NULL: there is none */
    Py_ssize_t at;
} Place;

static inline const uint8_t *bytes_of(PyObject *record)
{
    return (const uint8_t *)PyBytes_AS_STRING(record);
}

static int is_plain(const Round *round, PyObject *record)
{
    const Writes *writes = round->writes;
    if (!PyBytes_CheckExact(record) || PyBytes_GET_SIZE(record) < HEADER_BYTES || PyBytes_GET_SIZE(record) > writes->limit) {
        return 0;
    }
    const uint8_t *bytes = bytes_of(record);
    return writes->plain[bytes[FLAGS_AT]] && memcmp(bytes, round->floor, VERSION_BYTES) > 0 &&
           memcmp(bytes, round->horizon, VERSION_BYTES) < 0 &&
           memcmp(bytes + EXPIRY_AT, round->now, EXPIRY_BYTES) > 0;
}

/* Says whether this node takes writes of a partition that were routed by an epoch. */
static int is_ours(const Writes *writes, Py_ssize_t partition, PyObject *epoch)
{
    if (partition >= PyBytes_GET_SIZE(writes->writable) || partition >= PyList_GET_SIZE(writes->changed_at) ||
        partition >= PyList_GET_SIZE(writes->tables) || !PyBytes_AS_STRING(writes->writable)[partition]) {
        return 0;
    }
    PyObject *since = PyList_GET_ITEM(writes->changed_at, partition);
    int overflow, overflow_since = 0;
    long long by = PyLong_AsLongLongAndOverflow(epoch, &overflow);
    long long least = PyLong_CheckExact(since) ? PyLong_AsLongLongAndOverflow(since, &overflow_since) : -1;
    return least >= 0 && !overflow_since && !overflow && by >= least;
}

/* Reads a message; says whether it is a PUT that may be answered here. */
static int read_put(const Round *round, PyObject *message, Put *put)
{
    if (!PyTuple_CheckExact(message) || PyTuple_GET_SIZE(message) != 5) {
        return 0;
    }
    PyObject *number = PyTuple_GET_ITEM(message, 0), *verb = PyTuple_GET_ITEM(message, 1),
             *epoch = PyTuple_GET_ITEM(message, 2);
    put->key = PyTuple_GET_ITEM(message, 3);
    put->record = PyTuple_GET_ITEM(message, 4);
    if (!PyLong_CheckExact(number) || !PyLong_CheckExact(verb) || !PyLong_CheckExact(epoch) || !is_key(put->key) ||
        !is_plain(round, put->record)) {
        return 0;
    }
    int overflow, overflow_verb;
    long long id = PyLong_AsLongLongAndOverflow(number, &overflow);
    long wanted = PyLong_AsLongAndOverflow(verb, &overflow_verb);
    if (id < 0 || overflow || overflow_verb || wanted != (long)round->writes->put) {
        return 0;
    }
    put->number = (uint64_t)id;
    put->partition = partition_of_key(put->key, round->writes->seed);
    return is_ours(round->writes, put->partition, epoch);
}

/* Returns -1 with an exception set. */
static int find(const Writes *writes, const Put *put, Place *place)
{
    PyObject *table = PyList_GET_ITEM(writes->tables, put->partition);
    PyObject *names[] = {writes->main_name, writes->small_name};
    for (int home = 0; home < 2; home++) {
        struct rows *rows = rows_in(table, names[home], writes->rows_type);
        if (rows == NULL) {
            return -1;
        }
        Py_ssize_t at = rows_of_key(rows, put->key);
        if (at >= 0) {
            *place = (Place){rows, at};
            return 0;
        }
    }
    *place = (Place){NULL, -1};
    return 0;
}

static inline Entry *entry_at(const Place *place)
{
    return place->rows->slots[place->at].entry;
}

/* Says whether a record is newer than a living one: of two values, comparing the bytes is the whole rule. */
static int supersedes(const Round *round, PyObject *record, Entry *old)
{
    if (old->record_size < HEADER_BYTES || entry_is_due(old, round->now)) {
        return 0;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(record), common = size < old->record_size ? size : old->record_size;
    int order = memcmp(bytes_of(record), entry_record(old), common);
    return order > 0 || (order == 0 && size > old->record_size);
}

static int expires_otherwise(PyObject *record, Entry *old)
{
    return memcmp(bytes_of(record) + EXPIRY_AT, entry_record(old) + EXPIRY_AT, EXPIRY_BYTES) != 0;
}

/* Returns -1 with an exception set. */
static int tell_expiry(const Writes *writes, const Put *put)
{
    long long ms = 0;
    for (int byte = 0; byte < EXPIRY_BYTES; byte++) {
        ms = ms << 8 | bytes_of(put->record)[EXPIRY_AT + byte];
    }
    PyObject *done = PyObject_CallFunction(writes->expires, "nL", put->partition, ms);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Returns 1 if there is a value that the record supersedes, 0 if that is for Python to see, -1 with an exception set. */
static int find_older(const Round *round, const Put *put, Place *place)
{
    if (find(round->writes, put, place) < 0) {
        return -1;
    }
    return place->rows != NULL && supersedes(round, put->record, entry_at(place));
}

/* Replies first, for that can be taken back. */
static int replace(Round *round, const Put *put, const Place *place)
{
    struct replies *replies = &round->writes->replies;
    size_t replied = replies->size;
    if (replies_add_status(replies, put->number, round->writes->ok, 0) < 0) {
        return -1;
    }
    if (rows_replace(place->rows, place->at, put->key, put->record) < 0) {
        replies->size = replied;
        return -1;
    }
    return 1;
}

int write_one(Round *round, PyObject *message)
{
    Put put;
    Place place;
    if (!read_put(round, message, &put)) {
        return 0;
    }
    int found = find_older(round, &put, &place);
    if (found == 1 && expires_otherwise(put.record, entry_at(&place))) {
        if (tell_expiry(round->writes, &put) < 0) {
            return -1;
        }
        found = find_older(round, &put, &place); /* Python has run: nothing need be where it was */
    }
    if (found != 1) {
        return found;
    }
    size_t key_size = (size_t)PyBytes_GET_SIZE(put.key), size = (size_t)PyBytes_GET_SIZE(put.record);
    size_t old_size = entry_at(&place)->record_size;
    Py_ssize_t grows = (Py_ssize_t)arena_cost(key_size, size) - (Py_ssize_t)arena_cost(key_size, old_size);
    if (size != old_size && round->grown + grows > round->room) {
        return 0;
    }
    if (replace(round, &put, &place) < 0) {
        return -1;
    }
    round->grown += grows;
    return 1;
}
