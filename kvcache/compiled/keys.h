/* Keys: what one is, and the partition it belongs to; as `kvcache_client.placement.partitions` has it. Never here: who owns it. */

#ifndef KVCACHE_KEYS_H
#define KVCACHE_KEYS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "murmur3.h"

enum {
    PARTITION_SHIFT = 50, /* what is left is 14 bits */
    KEY_LIMIT = 1024,
};

static inline int is_key(PyObject *key)
{
    return PyBytes_CheckExact(key) && PyBytes_GET_SIZE(key) > 0 && PyBytes_GET_SIZE(key) <= KEY_LIMIT;
}

static inline Py_ssize_t partition_of_key(PyObject *key, unsigned seed)
{
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(key);
    return (Py_ssize_t)(murmur3_first_half(bytes, (size_t)PyBytes_GET_SIZE(key), seed) >> PARTITION_SHIFT);
}

#endif
