#include "rows.h"

#include <stddef.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    SLOT_BYTES = sizeof(Slot) + sizeof(uint16_t),
    FIRST_ROOM = 4,
};

static inline uint16_t *tags_of(const struct rows *rows)
{
    return (uint16_t *)(rows->slots + rows->capacity);
}

static inline uint16_t tag_of(Py_hash_t hash)
{
    return (uint16_t)((size_t)hash >> 8) & (uint16_t)~MAX_USES;
}

size_t rows_size(const struct rows *rows)
{
    return (size_t)rows->capacity * SLOT_BYTES;
}

/* Reading */

int entry_is_due(Entry *entry, const uint8_t *now)
{
    return entry->record_size >= HEADER_BYTES && memcmp(entry_record(entry) + EXPIRY_AT, now, EXPIRY_BYTES) <= 0;
}

int64_t entry_expiry_ms(Entry *entry)
{
    if (entry->record_size < HEADER_BYTES) {
        return -1;
    }
    int64_t time = 0;
    for (int byte = 0; byte < EXPIRY_BYTES; byte++) {
        time = time << 8 | entry_record(entry)[EXPIRY_AT + byte];
    }
    return time;
}

static inline int is_of(const Entry *entry, const uint8_t *key, size_t size)
{
    return entry->key_size == size && memcmp(entry->bytes, key, size) == 0;
}

Py_ssize_t rows_find(const struct rows *rows, const uint8_t *key, size_t size, Py_hash_t hash)
{
    if (rows->first == rows->end) {
        return -1;
    }
    const uint16_t *tags = tags_of(rows), tag = tag_of(hash);
    Py_ssize_t at = rows->first, end = rows->end;
#ifdef __SSE2__
    const __m128i wanted = _mm_set1_epi16((short)tag), hashed = _mm_set1_epi16((short)~MAX_USES);
    for (; at + 8 <= end; at += 8) {
        __m128i eight = _mm_and_si128(_mm_loadu_si128((const __m128i *)(tags + at)), hashed);
        unsigned equal = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi16(eight, wanted));
        while (equal) {
            int bit = __builtin_ctz(equal); /* there are two for each tag */
            if (is_of(rows->slots[at + bit / 2].entry, key, size)) {
                return at + bit / 2;
            }
            equal &= ~(3u << bit);
        }
    }
#endif
    for (; at < end; at++) {
        if ((tags[at] & ~MAX_USES) == tag && is_of(rows->slots[at].entry, key, size)) {
            return at;
        }
    }
    return -1;
}

Py_ssize_t rows_of_key(const struct rows *rows, PyObject *key)
{
    return rows_find(rows, (const uint8_t *)PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key), bytes_hash(key));
}

/* Room */

static Entry *block_of(const struct rows *rows)
{
    return (Entry *)((uint8_t *)rows->slots - offsetof(Entry, bytes));
}

static void forget_room(struct rows *rows)
{
    if (rows->slots != NULL) {
        arena_drop(rows->arena, block_of(rows));
    }
    rows->slots = NULL;
    rows->first = rows->end = rows->capacity = 0;
}

static int resize(struct rows *rows, uint32_t capacity)
{
    uint32_t count = rows_count(rows);
    Entry *block = arena_new(rows->arena, rows->owner, BLOCK, (size_t)capacity * SLOT_BYTES);
    if (block == NULL) {
        return -1;
    }
    Slot *slots = (Slot *)block->bytes;
    if (count) {
        memcpy(slots, rows->slots + rows->first, count * sizeof(Slot));
        memcpy(slots + capacity, tags_of(rows) + rows->first, count * sizeof(uint16_t));
    }
    forget_room(rows);
    rows->slots = slots;
    rows->end = count;
    rows->capacity = capacity;
    return 0;
}

/* What was grown out of is waste until it is cleaned up, so the steps are not small. */
static inline uint32_t room_for(uint32_t count)
{
    return count + count / 4 + FIRST_ROOM;
}

static int make_room(struct rows *rows)
{
    uint32_t count = rows_count(rows);
    if (rows->end < rows->capacity) {
        return 0;
    }
    if (rows->first > count / 16) { /* a queue in which the first leave as the last arrive */
        memmove(rows->slots, rows->slots + rows->first, count * sizeof(Slot));
        memmove(tags_of(rows), tags_of(rows) + rows->first, count * sizeof(uint16_t));
        rows->first = 0;
        rows->end = count;
        return 0;
    }
    if (count >= UINT32_MAX / 2) {
        PyErr_SetString(PyExc_OverflowError, "too many records for one table");
        return -1;
    }
    return resize(rows, room_for(count));
}

int rows_compact(struct rows *rows)
{
    uint32_t count = rows_count(rows);
    if (count == 0) {
        forget_room(rows);
        return 0;
    }
    return rows->capacity > 2 * count + FIRST_ROOM ? resize(rows, room_for(count)) : 0;
}

/* Changing */

static Entry *new_entry(struct rows *rows, PyObject *key, PyObject *record)
{
    size_t key_size = (size_t)PyBytes_GET_SIZE(key), record_size = (size_t)PyBytes_GET_SIZE(record);
    if (key_size >= BLOCK || record_size > UINT32_MAX) {
        PyErr_Format(PyExc_OverflowError, "a key of %zu and a record of %zu bytes are too long", key_size, record_size);
        return NULL;
    }
    Entry *entry = arena_new(rows->arena, rows->owner, key_size, record_size);
    if (entry == NULL) {
        return NULL;
    }
    memcpy(entry->bytes, PyBytes_AS_STRING(key), key_size);
    memcpy(entry->bytes + key_size, PyBytes_AS_STRING(record), record_size);
    return entry;
}

int rows_replace(struct rows *rows, Py_ssize_t at, PyObject *key, PyObject *record)
{
    size_t size = (size_t)PyBytes_GET_SIZE(record);
    if (rows->slots[at].entry->record_size == size) {
        memcpy(entry_record(rows->slots[at].entry), PyBytes_AS_STRING(record), size);
        return 0;
    }
    Entry *entry = new_entry(rows, key, record);
    if (entry == NULL) {
        return -1;
    }
    arena_drop(rows->arena, rows->slots[at].entry);
    rows->slots[at].entry = entry;
    return 0;
}

int rows_append(struct rows *rows, PyObject *key, PyObject *record, unsigned uses)
{
    Entry *entry = make_room(rows) < 0 ? NULL : new_entry(rows, key, record);
    if (entry == NULL) {
        return -1;
    }
    tags_of(rows)[rows->end] = tag_of(bytes_hash(key)) | (uint16_t)(uses < MAX_USES ? uses : MAX_USES);
    rows->slots[rows->end++].entry = entry;
    return 0;
}

void rows_use(struct rows *rows, Py_ssize_t at)
{
    uint16_t *tag = &tags_of(rows)[at];
    *tag += (*tag & MAX_USES) != MAX_USES;
}

unsigned rows_uses(const struct rows *rows, Py_ssize_t at)
{
    return tags_of(rows)[at] & MAX_USES;
}

void rows_moved(struct rows *rows, const Entry *from, Entry *to)
{
    if (from->key_size == BLOCK) {
        rows->slots = (Slot *)to->bytes;
        return;
    }
    PyObject *key = PyBytes_FromStringAndSize((const char *)from->bytes, from->key_size);
    if (key != NULL) { /* by tags, eight at a time */
        Py_ssize_t at = rows_find(rows, from->bytes, from->key_size, bytes_hash(key));
        rows->slots[at].entry = to;
        Py_DECREF(key);
        return;
    }
    PyErr_Clear();
    for (uint32_t at = rows->first; at < rows->end; at++) {
        if (rows->slots[at].entry == from) {
            rows->slots[at].entry = to;
            return;
        }
    }
}

void rows_drop(struct rows *rows, Py_ssize_t at)
{
    uint32_t index = (uint32_t)at, behind = rows->end - index - 1;
    arena_drop(rows->arena, rows->slots[index].entry);
    if (index == rows->first) {
        rows->first++;
        return;
    }
    memmove(rows->slots + index, rows->slots + index + 1, behind * sizeof(Slot));
    memmove(tags_of(rows) + index, tags_of(rows) + index + 1, behind * sizeof(uint16_t));
    rows->end--;
}

void rows_clear(struct rows *rows)
{
    for (uint32_t at = rows->first; at < rows->end; at++) {
        arena_drop(rows->arena, rows->slots[at].entry);
    }
    forget_room(rows);
}
