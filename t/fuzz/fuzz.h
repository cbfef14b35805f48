
/*
 * Fuzz targets, for libFuzzer and for the driver in main.c alike.
 */


#ifndef _FUZZ_H_INCLUDED_
#define _FUZZ_H_INCLUDED_


#include "ngx_tunnel_socks.h"


/* what libFuzzer calls; one that finds something aborts */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


typedef struct {
    const char  *data;
    size_t       len;
} fuzz_bytes_t;


typedef struct {
    const char  *name;
    ngx_uint_t   count;
} fuzz_reached_t;


/* what the driver makes of a target, which has one of these */

typedef struct {
    unsigned             segmented:1;    /* the first byte is no input */
    const fuzz_bytes_t  *seeds;          /* valid inputs */
    ngx_uint_t           nseeds;
    const fuzz_bytes_t  *words;          /* what means something in them */
    ngx_uint_t           nwords;
    fuzz_reached_t      *reached;        /* places, and how often so far */
    ngx_uint_t           nreached;
} fuzz_target_t;


extern const fuzz_target_t  fuzz_target;


#define fuzz_bytes(s)  { s, sizeof(s) - 1 }
#define fuzz_nelts(a)  (sizeof(a) / sizeof((a)[0]))


/* says what is wrong, and aborts */

#define fuzz_assert(ok)                                                       \
    if (!(ok)) {                                                              \
        fuzz_fail(__FILE__, __LINE__, #ok);                                   \
    }

void fuzz_fail(const char *file, int line, const char *what)
    __attribute__((noreturn));

/* a copy whose ends ASan knows, to be given to free() */

u_char *fuzz_copy(const void *data, size_t len);


#endif /* _FUZZ_H_INCLUDED_ */
