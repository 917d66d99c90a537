#include "replies.h"

#include <string.h>

enum {
    HEAD_BYTES = 32,         /* more than all that comes before a record, or makes up a reply without one */
    KEPT_BYTES = 64 * 1024,  /* a larger buffer is not kept for the next replies */
    ARRAY = 0x90,
    UINT_8 = 0xCC,
    BIN_8 = 0xC4,
};

static uint8_t *room_for(struct replies *replies, size_t size)
{
    if (replies->room - replies->size < size) {
        size_t room = 2 * (replies->size + size);
        uint8_t *bytes = PyMem_RawRealloc(replies->bytes, room);
        if (bytes == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        replies->bytes = bytes;
        replies->room = room;
    }
    return replies->bytes + replies->size;
}

static uint8_t *big_endian(uint8_t *to, uint64_t value, int bytes)
{
    for (int byte = bytes - 1; byte >= 0; byte--) {
        *to++ = (uint8_t)(value >> (8 * byte));
    }
    return to;
}

/* Writes a type of which the following ones have twice the width each, then a value in the least width that holds it. */
static uint8_t *sized(uint8_t *to, int first_type, uint64_t value)
{
    int power = value <= UINT8_MAX ? 0 : value <= UINT16_MAX ? 1 : value <= UINT32_MAX ? 2 : 3;
    *to++ = (uint8_t)(first_type + power);
    return big_endian(to, value, 1 << power);
}

static uint8_t *number_at(uint8_t *to, uint64_t value)
{
    if (value < UINT8_MAX / 2 + 1) {
        *to++ = (uint8_t)value;
        return to;
    }
    return sized(to, UINT_8, value);
}

int replies_add_record(struct replies *replies, uint64_t number, unsigned status, const uint8_t *record, size_t size)
{
    uint8_t *start = room_for(replies, HEAD_BYTES + size), *to = start;
    if (to == NULL) {
        return -1;
    }
    *to++ = ARRAY | 3;
    to = number_at(to, number);
    to = number_at(to, status);
    to = sized(to, BIN_8, size);
    memcpy(to, record, size);
    replies->size += (size_t)(to - start) + size;
    return 0;
}

int replies_add_status(struct replies *replies, uint64_t number, unsigned status, unsigned field)
{
    uint8_t *start = room_for(replies, HEAD_BYTES), *to = start;
    if (to == NULL) {
        return -1;
    }
    *to++ = ARRAY | (field ? 3 : 2);
    to = number_at(to, number);
    to = number_at(to, status);
    to = field ? number_at(to, field) : to;
    replies->size += (size_t)(to - start);
    return 0;
}

PyObject *replies_take(struct replies *replies)
{
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)replies->bytes, (Py_ssize_t)replies->size);
    replies->size = 0;
    if (replies->room > KEPT_BYTES) {
        replies_free(replies);
    }
    return bytes;
}

void replies_free(struct replies *replies)
{
    PyMem_RawFree(replies->bytes);
    *replies = (struct replies){0};
}
