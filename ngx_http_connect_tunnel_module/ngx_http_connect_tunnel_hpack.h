
/*
 * Header blocks of HTTP/2 (RFC 9113 4.3): read as a client compressed them,
 * written as a parser takes them that knows neither CONNECT nor the client's
 * dynamic table.
 *
 * A block, HEADERS and its CONTINUATIONs, becomes one frame whose fields are
 * of the static table, or literals for a table without room.  Of a CONNECT,
 * ":method" says TUNNEL, and ":scheme" and ":path", which is "/" and the
 * authority, are added.  If the client sent these two, they are there twice,
 * and an error; so is the missing path of a CONNECT that has no authority, or
 * two.
 *
 * Before the first CONNECT blocks may pass as they are, for the parser's table
 * is the client's until then.
 *
 * What a parser would refuse is left to it: a malformed frame is passed as it
 * is, and other errors as bytes that are the same error to the parser.
 */


#ifndef _NGX_HTTP_CONNECT_TUNNEL_HPACK_H_INCLUDED_
#define _NGX_HTTP_CONNECT_TUNNEL_HPACK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <nghttp2/nghttp2.h>


#pragma GCC visibility push(hidden)


#define NGX_HTTP_HPACK_FRAME  9              /* a frame's header, bytes */

#define NGX_HTTP_HPACK_DATA          0x0
#define NGX_HTTP_HPACK_HEADERS       0x1
#define NGX_HTTP_HPACK_CONTINUATION  0x9

#define NGX_HTTP_HPACK_END_STREAM    0x01
#define NGX_HTTP_HPACK_END_HEADERS   0x04
#define NGX_HTTP_HPACK_PADDED        0x08
#define NGX_HTTP_HPACK_PRIORITY      0x20


/* the header of a frame, RFC 9113 4.1 */

typedef struct {
    size_t                  len;         /* of what comes behind it */
    ngx_uint_t              type;
    u_char                  flags;
    ngx_uint_t              sid;
} ngx_http_hpack_head_t;


typedef struct {

    /* set by the caller */

    ngx_log_t              *log;
    size_t                  limit;       /* of names and values of a block */
    unsigned                pass:1;      /* blocks may, as they are; cleared
                                            with the first one that does not */

    /* results */

    u_char                 *pos;         /* what the parser gets */
    u_char                 *last;
    ngx_uint_t              sid;         /* of the block */
    const char             *what;        /* a malformed CONNECT has; NULL: it
                                            is none */
    unsigned                connect:1;   /* it is a CONNECT */
    unsigned                broken:1;    /* the connection is: whatever comes
                                            goes to the parser as it is */
    unsigned                reading:1;   /* in the midst of a block */

    /* private */

    unsigned                passing:1;   /* the block does */
    unsigned                first:1;     /* frame of the block was seen */
    unsigned                started:1;   /* the parser knows of the block */
    unsigned                ended:1;     /* the last frame was seen */
    unsigned                regular:1;   /* field, after those with a colon */
    unsigned                others:1;    /* than method and authority */
    ngx_uint_t              authorities;

    u_char                  flags;       /* of the first frame */
    u_char                  priority[5];
    u_char                  nhead;
    u_char                  head[15];    /* of a frame, and what is in front
                                            of its fragment */
    size_t                  rest;        /* of the frame's fragment */
    size_t                  padding;     /* behind that */
    size_t                  left;        /* of the limit */
    size_t                  budget;      /* bytes that its frames may have */

    u_char                 *start;       /* memory; NULL between blocks */
    u_char                 *end;
    u_char                 *out;         /* end of the fields */
    size_t                  fields;      /* offset of the first regular one */
    size_t                  authority;   /* offset of the last one's value */
    size_t                  len;         /* of it */

    u_char                  piece[32];   /* what is no whole block */

    nghttp2_hd_inflater    *inflater;
} ngx_http_hpack_t;


/*
 * NGX_OK or NGX_ERROR; the structure is zeroed but for log and limit.  The
 * frames of a block may have twice the limit and 16384 bytes, their headers
 * and padding included, so that frames with nothing in them come to an end.
 */

ngx_int_t ngx_http_hpack_init(ngx_http_hpack_t *h);
void ngx_http_hpack_free(ngx_http_hpack_t *h);

/*
 * Reads what a client has sent, from the header of a HEADERS frame on, or from
 * where the last call ended.  All bytes are used up as long as the block goes
 * on, and *p is moved.
 *
 * NGX_AGAIN: more bytes are needed.  NGX_OK: the block is complete, or broken
 * is set, and the bytes of pos are to go to the parser.  NGX_DECLINED: those
 * that were used up are, instead.  NGX_ERROR: no memory, or too many frames of
 * a block that passes.
 */

ngx_int_t ngx_http_hpack_read(ngx_http_hpack_t *h, u_char **p, u_char *last);

/*
 * Begins a block whose end has not come yet: as after NGX_OK there are bytes
 * for the parser, which so learns of the stream, and when it began.  Once a
 * block; NGX_OK, NGX_DECLINED if that was done, or nothing of the frame is
 * known yet, or NGX_ERROR.
 */

ngx_int_t ngx_http_hpack_start(ngx_http_hpack_t *h);

/* reads the header of a frame, which is there as a whole */

void ngx_http_hpack_parse(u_char *p, ngx_http_hpack_head_t *head);

/* a frame's header, and a number behind it; return the end */

u_char *ngx_http_hpack_write(u_char *p, size_t len, ngx_uint_t type,
    u_char flags, ngx_uint_t sid);
u_char *ngx_http_hpack_write_uint32(u_char *p, uint32_t n);

/*
 * Frees the memory of a block whose bytes were delivered; another block may be
 * read before that, and takes the same memory.
 */

void ngx_http_hpack_done(ngx_http_hpack_t *h);


#pragma GCC visibility pop


#endif /* _NGX_HTTP_CONNECT_TUNNEL_HPACK_H_INCLUDED_ */
