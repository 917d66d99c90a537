/* Writes: the PUTs of a node that put a newer value over a value, from messages to replies.
 *
 * Here lives the fast form of what `kvcache.service` does with the most frequent PUT. Never here: keys without a value, tombstones,
 * marked or superseded records, an eviction, a refusal: what is not plainly one value over another is left to Python.
 *
 *   message -> a PUT? -> partition, ours? -> table -> main, then small -> newer, both alive, room? -> copied over -> reply */

#ifndef KVCACHE_WRITES_H
#define KVCACHE_WRITES_H

#include "replies.h"
#include "rows.h"

enum { VERSION_BYTES = 8, FLAGS_AT = 14, FLAGS_COUNT = 256 };

typedef struct {
    PyObject_HEAD
    PyTypeObject *rows_type;
    PyObject *tables;     /* list: partition -> an object with `main` and `small` */
    PyObject *expires;    /* (partition, ms) is called before a record that expires at another time than the old one is kept */
    PyObject *writable;   /* bytes: partition -> whether writes are taken */
    PyObject *changed_at; /* list: partition -> the epoch that a write must have been routed by, at least */
    PyObject *main_name, *small_name;
    unsigned seed;
    unsigned put, ok;       /* numbers on the wire */
    Py_ssize_t limit;       /* bytes of a record */
    uint8_t plain[FLAGS_COUNT]; /* flags -> whether a record with them is a value like any other */
    struct replies replies;
} Writes;

/* What holds for the messages of one call. */
typedef struct {
    Writes *writes;
    const uint8_t *now;     /* six bytes: what expires then or before is over */
    const uint8_t *floor;   /* a version: only records above it are plain */
    const uint8_t *horizon; /* a version: only records below it are plain */
    Py_ssize_t room;        /* by how many bytes all records together may grow */
    Py_ssize_t grown;
} Round;

/* Returns 1 if the message was such a PUT and is answered, 0 if it is for Python, -1 with an exception set. */
int write_one(Round *round, PyObject *message);

#endif
