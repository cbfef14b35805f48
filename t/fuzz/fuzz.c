
/*
 * What fuzz targets share.
 */


#include "fuzz.h"

#include <sanitizer/asan_interface.h>


void
fuzz_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}


u_char *
fuzz_copy(const void *data, size_t len)
{
    u_char  *p;

    p = malloc(len);
    if (p == NULL) {
        abort();
    }

    /* malloc() has one byte for those who want none */

    if (len == 0) {
        ASAN_POISON_MEMORY_REGION(p, 1);
        return p;
    }

    return memcpy(p, data, len);
}
