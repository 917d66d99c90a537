/* What the files of the extension share with each other. Never here: anything that Python sees.
 *
 * The extension is an optional, faster form of what two Python modules define: `kvcache.store.rows`, and the reads and the
 * writes of `kvcache.service`. One set of tests holds both to the same behaviour.
 *
 *   arena.c      the memory of all records            arena_type.c  the same as the Python type `Arena`
 *   rows.c       the records of one queue             rows_type.c   the same as the Python type `Rows`
 *   murmur3.c    the hash of keys                     replies.c     replies as msgpack
 *   reads.c      GETs from messages to replies        reads_type.c  the same as the Python type `Reads`
 *   writes.c     PUTs from messages to replies        writes_type.c the same as the Python type `Writes`
 *   keys.h       what a key is
 *   native.c     the module
 */

#ifndef KVCACHE_NATIVE_H
#define KVCACHE_NATIVE_H

#include "rows.h"

typedef struct {
    PyObject_HEAD
    struct arena arena;
} ArenaObject;

typedef struct {
    PyObject_HEAD
    PyObject *arena;
    struct rows rows;
} RowsObject;

typedef struct {
    PyTypeObject *arena_type;
    PyTypeObject *rows_type;
    PyTypeObject *reads_type;
    PyTypeObject *writes_type;
} NativeState;

/* Returns the rows of a table that has them under a name; NULL with an exception set. */
struct rows *rows_in(PyObject *table, PyObject *name, PyTypeObject *type);

extern PyType_Spec arena_spec;
extern PyType_Spec rows_spec;
extern PyType_Spec reads_spec;
extern PyType_Spec writes_spec;

#endif
