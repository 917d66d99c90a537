#include "murmur3.h"

static const uint64_t FIRST = 0x87c37b91114253d5, SECOND = 0x4cf5ad432745937f;

static inline uint64_t rotated(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

static inline uint64_t word(const uint8_t *data, size_t size)
{
    uint64_t value = 0;
    for (size_t at = 0; at < size; at++) { /* of a constant size this is one load on a little-endian machine */
        value |= (uint64_t)data[at] << (8 * at);
    }
    return value;
}

static inline uint64_t mixed_first(uint64_t value)
{
    return rotated(value * FIRST, 31) * SECOND;
}

static inline uint64_t mixed_second(uint64_t value)
{
    return rotated(value * SECOND, 33) * FIRST;
}

static inline uint64_t avalanche(uint64_t value)
{
    value = (value ^ value >> 33) * 0xff51afd7ed558ccd;
    value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53;
    return value ^ value >> 33;
}

uint64_t murmur3_first_half(const uint8_t *data, size_t size, uint32_t seed)
{
    uint64_t low = seed, high = seed;
    size_t left = size;
    for (; left >= 16; left -= 16, data += 16) {
        low = (rotated(low ^ mixed_first(word(data, 8)), 27) + high) * 5 + 0x52dce729;
        high = (rotated(high ^ mixed_second(word(data + 8, 8)), 31) + low) * 5 + 0x38495ab5;
    }
    if (left > 8) {
        high ^= mixed_second(word(data + 8, left - 8));
    }
    if (left) {
        low ^= mixed_first(word(data, left > 8 ? 8 : left));
    }
    low ^= size;
    high ^= size;
    low += high;
    high += low;
    return avalanche(low) + avalanche(high);
}
