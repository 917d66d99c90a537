/* Rows: records by their keys, in the order of arrival.
 *
 * Here lives the dense form of what `kvcache.store.rows` keeps in a dict. Never here: which record is kept, or when it goes.
 *
 * A record is one entry of an arena; a row of pointers to them is the first-in-first-out queue; behind it lies a row of tags: 14 bits of each
 * key's hash, and in the lowest two how often the record was used (0 to 3). To find a key is to search the tags, eight at a time,
 * and to compare the one key in 16,384 that has the same bits. A partition holds some dozens to some thousands of records, so this
 * takes 10 to 300 ns, and ten bytes a record: a hash table would be a third empty, and have no order. */

#ifndef KVCACHE_ROWS_H
#define KVCACHE_ROWS_H

#include "arena.h"

/* A record begins with version (8 bytes), expiry (6) and flags (1), big-endian; see kvcache_client.protocol.record. */
enum { EXPIRY_AT = 8, EXPIRY_BYTES = 6, HEADER_BYTES = 15 };

enum { MAX_USES = 3 };

/* A pointer that may lie anywhere. */
typedef struct __attribute__((packed, aligned(2))) {
    Entry *entry;
} Slot;

struct rows {
    struct arena *arena; /* where the entries lie, and the slots as well */
    uint32_t owner;      /* the number of these rows there */
    Slot *slots;         /* `capacity` of them, then as many tags */
    uint32_t first;  /* entries before it have left */
    uint32_t end;
    uint32_t capacity;
};

/* Returns Python's hash of a bytes object, which keeps it; never fails, and runs no code of a subclass. */
static inline Py_hash_t bytes_hash(PyObject *key)
{
    return PyBytes_Type.tp_hash(key);
}

static inline uint8_t *entry_record(Entry *entry)
{
    return entry->bytes + entry->key_size;
}

static inline uint32_t rows_count(const struct rows *rows)
{
    return rows->end - rows->first;
}

/* Says whether an entry expires at `now`, six big-endian bytes, or before. What has no header never does. */
int entry_is_due(Entry *entry, const uint8_t *now);

/* Returns when an entry expires, in ms since 1970; -1 if it has no header. */
int64_t entry_expiry_ms(Entry *entry);

/* Returns the index of a key with this hash (Python's own), -1 if there is none. */
Py_ssize_t rows_find(const struct rows *rows, const uint8_t *key, size_t size, Py_hash_t hash);

/* The same for a bytes object. */
Py_ssize_t rows_of_key(const struct rows *rows, PyObject *key);

/* Keeps another record in the place `at` that `rows_find` gave. Returns -1 with an exception set. */
int rows_replace(struct rows *rows, Py_ssize_t at, PyObject *key, PyObject *record);

/* Keeps a record behind all others, as one that was used so often. Returns -1 with an exception set. */
int rows_append(struct rows *rows, PyObject *key, PyObject *record, unsigned uses);

/* Counts a use; returns how many are counted. */
void rows_use(struct rows *rows, Py_ssize_t at);
unsigned rows_uses(const struct rows *rows, Py_ssize_t at);

/* Takes an entry out, and frees it. */
void rows_drop(struct rows *rows, Py_ssize_t at);

void rows_clear(struct rows *rows);

/* Gives back room if most of it is unused. Returns -1 with an exception set. */
int rows_compact(struct rows *rows);

/* Follows an entry that was moved. */
void rows_moved(struct rows *rows, const Entry *from, Entry *to);

/* Returns the size of the rows of pointers and tags. */
size_t rows_size(const struct rows *rows);

#endif
