#define _DEFAULT_SOURCE /* madvise, MAP_ANONYMOUS */

#include "arena.h"

#include "rows.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SEGMENT_BYTES = 32 * 1024,
    REGION_SEGMENTS = 128,
    LARGE_BYTES = 2 * 1024, /* so much may be left unused at the end of a segment */
    LOOKED_AT = 16 * 1024,  /* of so many segments the emptiest is cleaned: 512 MiB, and some microseconds */
    CLEAN_AT_ONCE = 16,     /* bounds the time of a put */
    WASTE_PART = 32,        /* of all segments; so much may be dead, and one whole segment */
    WARM_SPARES = 1,
    BLOCK_HEAD = 8, /* of glibc's allocator; it rounds to 16 and gives no less than 32 */
    BLOCK_LEAST = 32,
};

static const uint32_t DEAD = UINT32_MAX;

struct segment {
    uint32_t used;  /* bytes written behind this head */
    uint32_t index; /* among those in use */
    uint8_t bytes[];
};

enum { ROOM = SEGMENT_BYTES - sizeof(struct segment) };

/* Sizes */

size_t block_bytes(size_t size)
{
    size_t whole = (size + BLOCK_HEAD + 15) & ~(size_t)15;
    return whole < BLOCK_LEAST ? BLOCK_LEAST : whole;
}

static size_t size_for(size_t key_size, size_t record_size)
{
    return (offsetof(Entry, bytes) + key_size + record_size + 1) & ~(size_t)1;
}

static size_t size_of(const Entry *entry)
{
    return size_for(entry->key_size == BLOCK ? 0 : entry->key_size, entry->record_size);
}

size_t arena_cost(size_t key_size, size_t record_size)
{
    size_t size = size_for(key_size, record_size);
    return size > LARGE_BYTES ? block_bytes(size) : size;
}

size_t arena_waste(const struct arena *arena)
{
    return arena->segments.count * SEGMENT_BYTES - arena->live;
}

size_t arena_allowance(const struct arena *arena)
{
    size_t count = arena->segments.count;
    return count ? SEGMENT_BYTES + count * (SEGMENT_BYTES / WASTE_PART) : 0;
}

/* Piles. Those of segments always have room for all that there are. */

static int reserve(struct pile *pile, size_t count)
{
    if (count <= pile->room) {
        return 0;
    }
    size_t room = count > 2 * pile->room ? count : 2 * pile->room;
    void **items = PyMem_RawRealloc(pile->items, room * sizeof(void *));
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    pile->items = items;
    pile->room = room;
    return 0;
}

static int push(struct pile *pile, void *item)
{
    if (reserve(pile, pile->count + 1) < 0) {
        return -1;
    }
    pile->items[pile->count++] = item;
    return 0;
}

/* Owners: a number that is free holds the next one that is, with the lowest bit set, which no pointer has. */

static inline struct rows *owner_of(const struct arena *arena, uint32_t number)
{
    return arena->owners.items[number];
}

uint32_t arena_enter(struct arena *arena, struct rows *rows)
{
    if (arena->free_owner) {
        uint32_t number = arena->free_owner - 1;
        arena->free_owner = (uint32_t)((uintptr_t)arena->owners.items[number] >> 1);
        arena->owners.items[number] = rows;
        return number;
    }
    return push(&arena->owners, rows) < 0 ? UINT32_MAX : (uint32_t)arena->owners.count - 1;
}

void arena_leave(struct arena *arena, uint32_t owner)
{
    arena->owners.items[owner] = (void *)((uintptr_t)arena->free_owner << 1 | 1);
    arena->free_owner = owner + 1;
}

/* Segments */

static struct segment *segment_of(Entry *entry)
{
    return (struct segment *)((uintptr_t)entry & ~(uintptr_t)(SEGMENT_BYTES - 1));
}

static int add_region(struct arena *arena)
{
    size_t size = (size_t)(REGION_SEGMENTS + 1) * SEGMENT_BYTES; /* one more, to begin at a multiple of a segment */
    size_t segments = (arena->regions.count + 1) * REGION_SEGMENTS;
    if (reserve(&arena->regions, arena->regions.count + 1) < 0 || reserve(&arena->segments, segments) < 0 ||
        reserve(&arena->spares, segments) < 0) {
        return -1;
    }
    uint32_t *living = PyMem_RawRealloc(arena->living, segments * sizeof(uint32_t));
    if (living == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    arena->living = living;
    uint8_t *region = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED) {
        PyErr_NoMemory();
        return -1;
    }
#ifdef MADV_NOHUGEPAGE
    (void)madvise(region, size, MADV_NOHUGEPAGE); /* or two MiB would be resident for the first byte */
#endif
    arena->regions.items[arena->regions.count++] = region;
    uintptr_t first = ((uintptr_t)region + SEGMENT_BYTES - 1) & ~(uintptr_t)(SEGMENT_BYTES - 1);
    for (size_t at = REGION_SEGMENTS; at-- > 0;) {
        arena->spares.items[arena->spares.count++] = (void *)(first + at * SEGMENT_BYTES);
    }
    return 0;
}

/* Has writing go on in another segment. Returns -1 with an exception set. */
static int open_segment(struct arena *arena)
{
    if (!arena->spares.count && add_region(arena) < 0) {
        return -1;
    }
    struct segment *segment = arena->spares.items[--arena->spares.count];
    segment->used = 0;
    segment->index = (uint32_t)arena->segments.count;
    arena->living[arena->segments.count] = 0;
    arena->segments.items[arena->segments.count++] = segment;
    arena->current = segment;
    return 0;
}

/* Where pages are larger than segments (64 KiB on some ARM kernels), to give back one would wipe out its neighbour. */
static int is_whole_pages(void)
{
    long page = sysconf(_SC_PAGESIZE);
    return page > 0 && SEGMENT_BYTES % page == 0;
}

static void close_segment(struct arena *arena, struct segment *segment)
{
    struct segment *last = arena->segments.items[--arena->segments.count];
    arena->segments.items[segment->index] = last;
    arena->living[segment->index] = arena->living[last->index];
    last->index = segment->index;
    arena->spares.items[arena->spares.count++] = segment;
    if (arena->spares.count > WARM_SPARES && is_whole_pages()) {
        void *colder = arena->spares.items[arena->spares.count - 1 - WARM_SPARES];
        (void)madvise(colder, SEGMENT_BYTES, MADV_DONTNEED);
    }
}

static Entry *written(struct arena *arena, size_t size)
{
    struct segment *segment = arena->current;
    Entry *entry = (Entry *)(segment->bytes + segment->used);
    segment->used += (uint32_t)size;
    arena->living[segment->index] += (uint32_t)size;
    arena->live += size;
    return entry;
}

static inline int fits(const struct arena *arena, size_t size)
{
    return arena->current != NULL && arena->current->used + size <= ROOM;
}

/* Cleaning */

static struct segment *emptiest(struct arena *arena)
{
    size_t count = arena->segments.count, first = arena->cursor < count ? arena->cursor : 0;
    size_t end = first + LOOKED_AT < count ? first + LOOKED_AT : count, found = count;
    uint32_t least = UINT32_MAX;
    for (size_t at = first; at < end; at++) {
        if (arena->living[at] < least && arena->segments.items[at] != arena->current) {
            least = arena->living[at];
            found = at;
        }
    }
    arena->cursor = end < count ? end : 0;
    return found < count ? arena->segments.items[found] : NULL;
}

static void die(struct arena *arena, struct segment *segment, Entry *entry, size_t size)
{
    entry->owner = DEAD;
    arena->living[segment->index] -= (uint32_t)size;
    arena->live -= size;
}

/* Moves the living entries of a segment to where writing goes on, and frees it. Returns -1 with an exception set. */
static int clean(struct arena *arena, struct segment *segment)
{
    size_t size;
    for (uint32_t at = 0; at < segment->used && arena->living[segment->index]; at += (uint32_t)size) {
        Entry *entry = (Entry *)(segment->bytes + at);
        size = size_of(entry);
        if (entry->owner == DEAD) {
            continue;
        }
        if (!fits(arena, size) && open_segment(arena) < 0) {
            return -1;
        }
        Entry *moved = written(arena, size);
        memcpy(moved, entry, size);
        rows_moved(owner_of(arena, entry->owner), entry, moved);
        die(arena, segment, entry, size);
    }
    close_segment(arena, segment);
    return 0;
}

static int next_segment(struct arena *arena, size_t size)
{
    for (int cleaned = 0; cleaned < CLEAN_AT_ONCE && arena_waste(arena) > arena_allowance(arena); cleaned++) {
        struct segment *segment = emptiest(arena);
        if (segment == NULL || arena->living[segment->index] > ROOM - ROOM / 16) { /* it would be moved for next to nothing */
            break;
        }
        if (clean(arena, segment) < 0) {
            return -1;
        }
    }
    return fits(arena, size) ? 0 : open_segment(arena);
}

/* Entries */

Entry *arena_new(struct arena *arena, uint32_t owner, size_t key_size, size_t record_size)
{
    size_t size = size_for(key_size == BLOCK ? 0 : key_size, record_size);
    Entry *entry;
    if (size > LARGE_BYTES) {
        entry = PyMem_RawMalloc(size);
        if (entry == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
    }
    else {
        if (!fits(arena, size) && next_segment(arena, size) < 0) {
            return NULL;
        }
        entry = written(arena, size);
    }
    entry->owner = owner;
    entry->record_size = (uint32_t)record_size;
    entry->key_size = (uint16_t)key_size;
    return entry;
}

void arena_drop(struct arena *arena, Entry *entry)
{
    size_t size = size_of(entry);
    if (size > LARGE_BYTES) {
        PyMem_RawFree(entry);
        return;
    }
    struct segment *segment = segment_of(entry);
    die(arena, segment, entry, size);
    if (arena->living[segment->index] == 0 && (segment != arena->current || arena->live == 0)) {
        arena->current = segment == arena->current ? NULL : arena->current;
        close_segment(arena, segment);
    }
}

void arena_free(struct arena *arena)
{
    for (size_t at = 0; at < arena->regions.count; at++) {
        (void)munmap(arena->regions.items[at], (size_t)(REGION_SEGMENTS + 1) * SEGMENT_BYTES);
    }
    PyMem_RawFree(arena->segments.items);
    PyMem_RawFree(arena->living);
    PyMem_RawFree(arena->spares.items);
    PyMem_RawFree(arena->regions.items);
    PyMem_RawFree(arena->owners.items);
    memset(arena, 0, sizeof *arena);
}
