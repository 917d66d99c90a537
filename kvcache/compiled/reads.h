/* Reads: the GETs of a node, from messages to replies.
 *
 * Here lives the fast form of what `kvcache.service` does with GET, and with the keys of GET_MANY. Never here: any other verb, or
 * a refusal: what is not plainly a read of this node's own is left to Python, which knows what to say.
 *
 *   message -> a GET? -> partition, ours? -> table -> main, then small -> not expired? -> use counted -> reply */

#ifndef KVCACHE_READS_H
#define KVCACHE_READS_H

#include "replies.h"
#include "rows.h"

typedef struct {
    PyObject_HEAD
    PyTypeObject *rows_type;
    PyObject *tables;   /* list: partition -> an object with `main` and `small` */
    PyObject *missed;   /* (partition, key) -> why there is no record; it counts the miss */
    PyObject *readable; /* bytearray: partition -> whether reads are answered */
    PyObject *main_name, *small_name;
    unsigned seed;
    unsigned get, ok, miss; /* numbers on the wire */
    struct replies replies;
} Reads;

/* What holds for the messages of one call. */
typedef struct {
    Reads *reads;
    const uint8_t *now; /* what expires then or before is over */
    Py_ssize_t hits;
} Call;

/* Returns -1 with an exception set if `now6` is no time. */
int call_begin(Call *call, Reads *reads, PyObject *now6);

/* Returns 1 if the message was a GET and is answered, 0 if it is for Python, -1 with an exception set. */
int answer_one(Call *call, PyObject *message);

/* Returns the live entry of a key, and counts its use; NULL if there is none, if Python has to say why not, or with an exception
 * set. It is good until anything else is done. */
Entry *look_up(Call *call, PyObject *key);

#endif
