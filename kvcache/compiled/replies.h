/* Replies as the bytes that msgpack would make of them, one behind the other.
 *
 * Here lives packing. Never here: which reply a message gets. */

#ifndef KVCACHE_REPLIES_H
#define KVCACHE_REPLIES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

struct replies {
    uint8_t *bytes;
    size_t size, room;
};

/* Adds [number, status, record]. Returns -1 with an exception set. */
int replies_add_record(struct replies *replies, uint64_t number, unsigned status, const uint8_t *record, size_t size);

/* Adds [number, status], and a field behind it if that is not 0. Returns -1 with an exception set. */
int replies_add_status(struct replies *replies, uint64_t number, unsigned status, unsigned field);

/* Returns all bytes, and forgets them. NULL with an exception set. */
PyObject *replies_take(struct replies *replies);

void replies_free(struct replies *replies);

#endif
