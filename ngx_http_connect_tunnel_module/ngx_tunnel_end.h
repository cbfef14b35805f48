
/*
 * End: how the relay reads, writes, and closes one side of a tunnel.
 */


#ifndef _NGX_TUNNEL_END_H_INCLUDED_
#define _NGX_TUNNEL_END_H_INCLUDED_


#include "ngx_tunnel_rate.h"
#include "ngx_tunnel_target.h"
#include "ngx_tunnel_worker.h"


#pragma GCC visibility push(hidden)


typedef struct ngx_tunnel_end_s  ngx_tunnel_end_t;


/*
 * The events of an end's connection tell when it is ready; all else is asked
 * of these, for the connection need not be a socket.
 *
 * open       prepares the end for relaying: NGX_OK or NGX_ERROR
 * recv, send return as those of a connection
 * shutdown   ends the sending half: NGX_OK, NGX_AGAIN to be called again on a
 *            write event, or NGX_ERROR; last tells that it is closed next
 * reset      has the next close be an abort
 * cut        tells that the next close is in the midst of what was to be sent
 * unsent     bytes that an abort would take, sent as they are
 * failed     whether there is an error that was not told yet
 * events     asks for the events that the end needs next: NGX_OK or NGX_ERROR
 */

typedef struct {
    ngx_int_t               (*open)(ngx_tunnel_end_t *e,
                                 ngx_uint_t keepalive);
    ssize_t                 (*recv)(ngx_tunnel_end_t *e, u_char *buf,
                                 size_t size);
    ssize_t                 (*send)(ngx_tunnel_end_t *e, u_char *buf,
                                 size_t size);
    ngx_int_t               (*shutdown)(ngx_tunnel_end_t *e, ngx_uint_t last);
    void                    (*reset)(ngx_tunnel_end_t *e);
    void                    (*cut)(ngx_tunnel_end_t *e);
    size_t                  (*unsent)(ngx_tunnel_end_t *e);
    ngx_uint_t              (*failed)(ngx_tunnel_end_t *e);
    ngx_int_t               (*events)(ngx_tunnel_end_t *e);
} ngx_tunnel_end_ops_t;

/* a TCP or UNIX-domain socket, with TLS or without */

extern const ngx_tunnel_end_ops_t  ngx_tunnel_end_socket;


/* an end, and what was read from it and still has to be sent to the other */

struct ngx_tunnel_end_s {
    ngx_connection_t             *connection;
    const ngx_tunnel_end_ops_t   *ops;
    void                         *data;          /* of the ops */

    off_t                         received;      /* from this end */
    off_t                         sent;          /* to this end */

    u_char                       *pos;           /* bytes that wait */
    u_char                       *last;
    ngx_tunnel_buf_t             *buf;           /* they are in, or NULL */

    ngx_tunnel_pipe_t            *pipe;          /* or NULL */
    size_t                        piped;         /* bytes that wait there */

    ngx_msec_t                    stalled;       /* since when they wait, and
                                                    none went; 0: none wait */

    off_t                         left;          /* that may be received */
    ngx_tunnel_rate_t            *rate;          /* of receiving, or NULL */

    size_t                        run;           /* bytes spliced in a row */

    unsigned                      whole:1;       /* a read is a datagram */
    unsigned                      eof:1;         /* has ended its sending */
    unsigned                      shut:1;        /* eof is passed on */
    unsigned                      gone:1;        /* and cannot be sent to */
    unsigned                      delayed:1;     /* until rate->next */
    unsigned                      bulk:1;        /* is spliced */
    unsigned                      full:1;        /* the last read was */
};


/*
 * Makes a connection of a socket of a type, which is closed if that fails; the
 * caller sets the handlers of its events, which are not asked for yet.
 * Returns NULL after an error, which is set, or 0 if there are too many.
 */

ngx_connection_t *ngx_tunnel_socket_connection(ngx_socket_t fd, int type,
    ngx_log_t *log);

/* lets an IPv6 socket have IPv4 peers, too, as mapped ones; 0 or -1 */

int ngx_tunnel_socket_dual(ngx_socket_t fd, int family);

/* whether there can be one; nginx would log an alert if not */

ngx_uint_t ngx_tunnel_socket_available(void);

/* the address of an IP socket, see ngx_tunnel_ip(), and its port or 0 */

in_port_t ngx_tunnel_socket_ip(u_char *ip, struct sockaddr *sa);

/*
 * The text of an address with its port, an IPv4-mapped one as IPv4, from the
 * pool; NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_tunnel_socket_name(ngx_pool_t *pool, struct sockaddr *sa,
    socklen_t socklen, ngx_str_t *name);

/* a handler for events that are only noted, in their flags, for later */

void ngx_tunnel_socket_note(ngx_event_t *ev);

/* the error that a socket has and has not told of yet, or 0; once */

ngx_err_t ngx_tunnel_socket_error(ngx_connection_t *c);

/*
 * For the read events of a client whose bytes are not wanted yet: they stay
 * where they are.  Returns NGX_OK, NGX_DECLINED if the client has reset the
 * connection, which is logged, or NGX_ERROR.
 */

ngx_int_t ngx_tunnel_socket_check(ngx_connection_t *c);


#if (NGX_TUNNEL_HAVE_SPLICE)

/* whether the descriptor has the bytes as the tunnel has them */

ngx_uint_t ngx_tunnel_end_is_raw(ngx_tunnel_end_t *e);

/*
 * As recv and send, for an end that is raw, from and to a pipe; NGX_DECLINED
 * if splice() does not do this.
 */

ssize_t ngx_tunnel_end_splice_recv(ngx_tunnel_end_t *e,
    ngx_tunnel_pipe_t *pipe, size_t size);
ssize_t ngx_tunnel_end_splice_send(ngx_tunnel_end_t *e,
    ngx_tunnel_pipe_t *pipe, size_t size);

#endif


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_END_H_INCLUDED_ */
