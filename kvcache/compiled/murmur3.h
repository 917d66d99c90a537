/* MurmurHash3 x64_128, the half of it from which partitions come.
 *
 * Here lives the hash alone. Never here: what a partition is (`kvcache_client.placement.partitions`).
 * Source: Appleby, MurmurHash3 (public domain, 2011); written anew from its definition. */

#ifndef KVCACHE_MURMUR3_H
#define KVCACHE_MURMUR3_H

#include <stddef.h>
#include <stdint.h>

/* Returns the first 64 of the 128 bits. */
uint64_t murmur3_first_half(const uint8_t *data, size_t size, uint32_t seed);

#endif
