/* Arena: the memory of all records of a store.
 *
 * Here lives where an entry lies, and that little is wasted however sizes change. Never here: which entries there are (`rows.c`).
 *
 * An allocator keeps a page for as long as one object in it lives, and a cache whose values grow or shrink soon has more holes than
 * records. So entries are written one behind the other into segments, and where most of a segment has died its living entries are
 * moved to where writing goes on, and the segment is used anew: a log-structured memory, after Rumble, Kejriwal and Ousterhout,
 * "Log-structured memory for DRAM-based storage" (FAST 2014). That needs no header and no rounding per entry, either. Records leave
 * a cache about in the order they came, so segments die nearly whole, and little is moved.
 *
 * What is large has a block of its own from the C library: of those, one is as good as a segment. */

#ifndef KVCACHE_ARENA_H
#define KVCACHE_ARENA_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

typedef struct __attribute__((packed, aligned(2))) {
    uint32_t owner; /* whose rows point to it */
    uint32_t record_size;
    uint16_t key_size;
    uint8_t bytes[]; /* the key, then the record */
} Entry;

struct rows;
struct segment;

/* A growing row of pointers. */
struct pile {
    void **items;
    size_t count, room;
};

struct arena {
    struct pile segments; /* those in use, in no order */
    uint32_t *living;     /* bytes of living entries in each of them */
    struct pile spares;   /* free ones; the last few still have their pages */
    struct pile regions;  /* what segments are cut from */
    struct pile owners;   /* rows by their number, or the next number that is free */
    uint32_t free_owner;  /* one more than the first free number, 0: there is none */
    struct segment *current; /* the one that is written to */
    size_t live;             /* bytes of living entries in segments */
    size_t cursor;           /* where the search for a segment to clean goes on */
};

/* Returns the number under which entries say that they are these rows', UINT32_MAX with an exception set. */
uint32_t arena_enter(struct arena *arena, struct rows *rows);
void arena_leave(struct arena *arena, uint32_t owner);

enum { BLOCK = UINT16_MAX }; /* as the size of a key: no entry but `record_size` bytes of the owner's own */

/* Returns an entry with room for a key and a record; NULL with an exception set. All other entries may have moved. */
Entry *arena_new(struct arena *arena, uint32_t owner, size_t key_size, size_t record_size);

void arena_drop(struct arena *arena, Entry *entry);

/* Frees everything; nothing may be used any more. */
void arena_free(struct arena *arena);

/* Returns the bytes that an entry takes; of a large one, with what the C library adds. */
size_t arena_cost(size_t key_size, size_t record_size);

/* Returns the bytes that the segments in use take beyond their living entries. */
size_t arena_waste(const struct arena *arena);

/* Returns how much of that is allowed: more is cleaned up when writing goes on in another segment. */
size_t arena_allowance(const struct arena *arena);

/* Returns the bytes that a block of the C library takes. */
size_t block_bytes(size_t size);

#endif
