/*
 * A client's TLS connection to a proxy, with one tunnel that is asked for in
 * HTTP/1.1, or with tunnels that are streams of HTTP/2.
 *
 * It has no socket and waits for nothing: what was received goes in, what is
 * to be sent comes out, and what happened is told by the functions of
 * link_events.  These may call link_open_stream(), link_wake(), and
 * link_close_stream(), and nothing else of a link.
 */

#ifndef LINK_H
#define LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>


enum {
    LINK_PLAIN = 65536,         /* bytes that are encrypted in one go */
    LINK_RECORD = 16384         /* and the largest record, or frame */
};

typedef struct link_s  link_t;

typedef struct {

    /* the handshake is complete; data is that of link_new() */
    void   (*opened)(void *data);

    /* bytes for a tunnel: with HTTP/1.1, also the answer to CONNECT */
    void   (*received)(void *tunnel, const unsigned char *p, size_t n);

    /* bytes from it: as many of n as there are, possibly none */
    size_t (*pull)(void *tunnel, unsigned char *p, size_t n);

    /* HTTP/2: the status of the answer to CONNECT */
    void   (*answered)(void *tunnel, int status);

    /* HTTP/2: the other end has ended or reset the stream */
    void   (*closed)(void *tunnel, uint32_t code);

} link_events_t;


/* returns NULL, or what is wrong */
const char *link_init(const link_events_t *events);

link_t *link_new(bool h2, void *data);
void link_free(link_t *l);

/* false: the connection is of no use any more, for the reason in *why */
bool link_receive(link_t *l, const unsigned char *p, size_t n,
    const char **why);

/*
 * What is to be sent, none at the end; then, how much of it was.  The bytes
 * of tunnels are only asked for when everything before them was sent.
 */
bool link_output(link_t *l, const unsigned char **p, size_t *n,
    const char **why);
void link_sent(link_t *l, size_t n);

/* a tunnel of the link: with HTTP/2, its stream, which is asked for at once */
int32_t link_open_stream(link_t *l, void *tunnel, const char *authority);

/* the tunnel has bytes again */
void link_wake(link_t *l, int32_t stream);

/* HTTP/2: ends the stream, or resets it; nothing more is told about it */
void link_close_stream(link_t *l, int32_t stream, bool reset);

/* whether it takes new tunnels */
bool link_usable(const link_t *l);

#endif /* LINK_H */
