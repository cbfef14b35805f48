
/*
 * A whole nginx in the process of a fuzz target, and what is the kernel to it.
 */


#ifndef _SERVER_H_INCLUDED_
#define _SERVER_H_INCLUDED_


#include "fuzz.h"


#define FUZZ_TARGETS  64


typedef struct {
    u_char               *data;
    size_t                len;
    size_t                size;
} fuzz_buf_t;


/* what a client does: it sends these bytes, reads all, and ends */

typedef struct {
    in_port_t             port;          /* of the server's */
    const u_char         *data;
    size_t                len;

    size_t                first;         /* segments are so long */
    size_t                segment;
    size_t                room;          /* and it takes so much at once */

    time_t                time;          /* it has, which does not pass */

    unsigned              reset:1;       /* it ends with RST, not with FIN */
} fuzz_client_t;


/* what came of it */

typedef struct {
    fuzz_buf_t            sent;          /* to the client */
    fuzz_buf_t            log;           /* lines of the access log */
    fuzz_buf_t            error;         /* and of the error log */

    fuzz_buf_t            targets[FUZZ_TARGETS];     /* to each of them */
    ngx_uint_t            ntargets;

    unsigned              first:1;       /* nginx has ended first */
    unsigned              aborted:1;     /* with RST */
} fuzz_result_t;


void fuzz_nginx(fuzz_client_t *client, fuzz_result_t *result);

void fuzz_put(fuzz_buf_t *b, const void *data, size_t len);
ngx_uint_t fuzz_same(const fuzz_buf_t *a, const fuzz_buf_t *b);
ngx_uint_t fuzz_has(const fuzz_buf_t *b, const char *text);


/* its configuration, after "daemon off" */

extern const char  fuzz_nginx_conf[];


#endif /* _SERVER_H_INCLUDED_ */
