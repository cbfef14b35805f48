
/*
 * nginx, all but its main(), in the process of a fuzz target.
 *
 * The kernel is ours: the linker's --wrap gives us all calls that have to do
 * with sockets, epoll, time, and logs.  Nothing leaves the process, and time
 * passes when there is nothing else to do.  Events are those of epoll, which
 * tells of an edge once, and of what is there when it tells.
 */


#include "server.h"

#include <ngx_event.h>
#include <nginx.h>
#include <ngx_thread_pool.h>

#include <sys/mman.h>
#include <netinet/tcp.h>


#define FUZZ_FILES     256
#define FUZZ_FD        100000            /* the first of ours */

#define FUZZ_ANSWERS   64                /* that wait to be read */

/* more events in a row than there can be for an input */

#define FUZZ_ENDLESS   200000


typedef enum {
    FUZZ_FREE = 0,
    FUZZ_SOCKET,
    FUZZ_LISTEN,
    FUZZ_CLIENT,
    FUZZ_TARGET,
    FUZZ_RESOLVER                        /* stays there */
} fuzz_file_type_e;


typedef struct {
    fuzz_file_type_e      type;
    in_port_t             port;

    uint32_t              events;        /* asked for by epoll_ctl() */
    epoll_data_t          data;

    const u_char         *pos;           /* to be read */
    const u_char         *last;
    size_t                room;          /* for what is written */
    fuzz_buf_t           *out;

    int                   error;         /* of connect() */

    unsigned              edge:1;
    unsigned              connecting:1;  /* until the next epoll_wait() */
    unsigned              connected:1;
    unsigned              eof:1;         /* the peer's FIN */
    unsigned              reset:1;       /* and its RST */
    unsigned              shut:1;        /* nginx's FIN */
    unsigned              linger:1;      /* close() sends RST */
} fuzz_file_t;


static void fuzz_start(void);
static void fuzz_check(void);
static fuzz_file_t *fuzz_open(fuzz_file_type_e type, int *fd);
static fuzz_file_t *fuzz_get(int fd);
static uint32_t fuzz_poll(fuzz_file_t *f);
static ngx_uint_t fuzz_next(void);
static ssize_t fuzz_read(fuzz_file_t *f, void *buf, size_t size, int flags);
static ssize_t fuzz_write(fuzz_file_t *f, const void *buf, size_t size);
static void fuzz_resolve(const u_char *query, size_t size);
static int fuzz_errno(int err);


typedef struct {
    size_t                len;
    u_char                data[1024];
} fuzz_answer_t;


static fuzz_file_t     fuzz_files[FUZZ_FILES];
static ngx_uint_t      fuzz_running;
static uint64_t        fuzz_clock;       /* msec */

static fuzz_client_t  *fuzz_client;
static fuzz_result_t  *fuzz_result;
static fuzz_file_t    *fuzz_peer;        /* where the client is accepted */
static const u_char   *fuzz_end;         /* of what the client sends */
static ngx_uint_t      fuzz_waiting;     /* to be accepted */
static ngx_uint_t      fuzz_over;        /* the client has ended */
static ngx_uint_t      fuzz_stuck;

/* of threads; done, and not told of */

static ngx_thread_task_t  *fuzz_tasks;

static fuzz_answer_t   fuzz_answers[FUZZ_ANSWERS];
static ngx_uint_t      fuzz_nanswers;

static int             fuzz_access_fd;
static int             fuzz_error_fd;

static ngx_uint_t      fuzz_free;        /* connections */
static ngx_uint_t      fuzz_listening;   /* sockets */


void
fuzz_put(fuzz_buf_t *b, const void *data, size_t len)
{
    if (b->size - b->len < len) {
        b->size = 2 * (b->len + len);
        b->data = realloc(b->data, b->size);

        if (b->data == NULL) {
            abort();
        }
    }

    if (len) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
    }
}


ngx_uint_t
fuzz_same(const fuzz_buf_t *a, const fuzz_buf_t *b)
{
    return a->len == b->len
           && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}


ngx_uint_t
fuzz_has(const fuzz_buf_t *b, const char *text)
{
    return b->len && memmem(b->data, b->len, text, strlen(text)) != NULL;
}


/* what main() does, as far as it is needed */

static void
fuzz_start(void)
{
    int               fd;
    char              name[4096], path[4096 + 8];
    ssize_t           n;
    ngx_uint_t        i;
    ngx_cycle_t      *cycle;
    ngx_list_part_t  *part;
    ngx_open_file_t  *file;

    /* the password is "p" */
    static const char       users[] = "u:{PLAIN}p\nv:ab8Smhzf5D4wA\n";

    static u_char           conf[64];
    static ngx_log_t        log;
    static ngx_cycle_t      init;
    static ngx_open_file_t  error_log;

    /* what nginx wants to have as a file or a directory */

    n = readlink("/proc/self/exe", name, sizeof(name) - 16);
    fuzz_assert(n > 0);

    name[n] = '\0';
    strcat(name, ".prefix/");

    (void) mkdir(name, 0700);

    (void) strcpy(stpcpy(path, name), "users");

    fd = open(path, O_CREAT|O_TRUNC|O_WRONLY, 0600);
    fuzz_assert(fd != -1 && write(fd, users, sizeof(users) - 1) != -1);
    (void) close(fd);

    fd = memfd_create("nginx.conf", 0);
    fuzz_assert(fd != -1);

    n = strlen(fuzz_nginx_conf);
    fuzz_assert(write(fd, fuzz_nginx_conf, n) == n);

    sprintf((char *) conf, "/proc/self/fd/%d", fd);

    error_log.fd = STDERR_FILENO;
    log.file = &error_log;
    log.log_level = NGX_LOG_WARN;

    fuzz_assert(ngx_strerror_init() == NGX_OK);

    ngx_max_sockets = -1;

    ngx_time_init();
#if (NGX_PCRE)
    ngx_regex_init();
#endif
    ngx_pid = ngx_getpid();
#if (NGX_OPENSSL)
    ngx_ssl_init(&log);
#endif

    init.log = &log;
    ngx_cycle = &init;

    init.pool = ngx_create_pool(1024, &log);
    fuzz_assert(init.pool != NULL);

    init.prefix.data = (u_char *) strdup(name);
    init.prefix.len = strlen(name);
    init.conf_prefix = init.prefix;
    init.conf_file.data = conf;
    init.conf_file.len = strlen((char *) conf);
    ngx_str_set(&init.error_log, "/dev/null");

    fuzz_assert(ngx_os_init(&log) == NGX_OK);
    fuzz_assert(ngx_crc32_table_init() == NGX_OK);

    ngx_slab_sizes_init();

    fuzz_assert(ngx_preinit_modules() == NGX_OK);

    cycle = ngx_init_cycle(&init);
    fuzz_assert(cycle != NULL);

    ngx_cycle = cycle;
    ngx_use_stderr = 0;

    for (i = 0; cycle->modules[i]; i++) {

        if (cycle->modules[i]->init_process) {
            fuzz_assert(cycle->modules[i]->init_process(cycle) == NGX_OK);
        }
    }

    /* a file has one descriptor for its name as it is written */

    part = &cycle->open_files.part;
    file = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            file = part->elts;
            i = 0;
        }

        if (ngx_strcmp(file[i].name.data, "/dev/null") == 0) {
            fuzz_error_fd = file[i].fd;

        } else if (ngx_strcmp(file[i].name.data, "/dev/./null") == 0) {
            fuzz_access_fd = file[i].fd;
        }
    }

    fuzz_assert(fuzz_error_fd && fuzz_access_fd);

    (void) close(fd);

    fuzz_clock = ngx_current_msec + 1000;
    fuzz_free = ngx_cycle->free_connection_n;
    fuzz_listening = ngx_cycle->listening.nelts;
}


void
fuzz_nginx(fuzz_client_t *client, fuzz_result_t *result)
{
    ngx_uint_t          i, n;
    ngx_thread_task_t  *task;

    if (fuzz_clock == 0) {
        fuzz_start();
    }

    result->sent.len = 0;
    result->log.len = 0;
    result->error.len = 0;

    for (i = 0; i < FUZZ_TARGETS; i++) {
        result->targets[i].len = 0;
    }

    result->ntargets = 0;
    result->first = 0;
    result->aborted = 0;

    fuzz_client = client;
    fuzz_result = result;
    fuzz_peer = NULL;
    fuzz_waiting = 1;
    fuzz_over = 0;
    fuzz_stuck = 0;

    fuzz_running = 1;

    for (n = 0; !fuzz_stuck; n++) {
        fuzz_assert(n < FUZZ_ENDLESS);

        while (fuzz_tasks) {
            task = fuzz_tasks;
            fuzz_tasks = task->next;

            task->event.complete = 1;
            task->event.active = 0;
            task->event.handler(&task->event);
        }

        ngx_process_events_and_timers((ngx_cycle_t *) ngx_cycle);
    }

    fuzz_running = 0;

    fuzz_check();
}


/* nothing is left of a client */

static void
fuzz_check(void)
{
    ngx_uint_t  i, n, listening;

    for (n = 0, listening = 0, i = 0; i < FUZZ_FILES; i++) {

        switch (fuzz_files[i].type) {

        case FUZZ_FREE:
            break;

        case FUZZ_LISTEN:
            listening++;
            break;

        case FUZZ_RESOLVER:
            n++;
            break;

        default:
            fuzz_fail(__FILE__, __LINE__, "a socket is still open");
        }
    }

    fuzz_assert(listening == fuzz_listening);
    fuzz_assert(ngx_cycle->free_connection_n + n == fuzz_free);
    fuzz_assert(ngx_event_timer_rbtree.root
                == ngx_event_timer_rbtree.sentinel);
    fuzz_assert(fuzz_tasks == NULL);
    fuzz_assert(ngx_queue_empty(&ngx_posted_events));
    fuzz_assert(ngx_queue_empty(&ngx_posted_next_events));

#if (NGX_STAT_STUB)
    fuzz_assert(*ngx_stat_active == 0);
    fuzz_assert(*ngx_stat_reading == 0);
    fuzz_assert(*ngx_stat_writing == 0);
    fuzz_assert(*ngx_stat_waiting == 0);
#endif
}


static fuzz_file_t *
fuzz_open(fuzz_file_type_e type, int *fd)
{
    ngx_uint_t    i;
    fuzz_file_t  *f;

    for (i = 0; i < FUZZ_FILES; i++) {
        f = &fuzz_files[i];

        if (f->type == FUZZ_FREE) {
            ngx_memzero(f, sizeof(fuzz_file_t));

            f->type = type;
            *fd = FUZZ_FD + i;

            return f;
        }
    }

    abort();
}


/* NULL: it is the system's */

static fuzz_file_t *
fuzz_get(int fd)
{
    fuzz_file_t  *f;

    if (fd < FUZZ_FD) {
        fuzz_assert(!fuzz_running || fd >= 0);
        return NULL;
    }

    fuzz_assert(fd < FUZZ_FD + FUZZ_FILES);

    f = &fuzz_files[fd - FUZZ_FD];
    fuzz_assert(f->type != FUZZ_FREE);

    return f;
}


static uint32_t
fuzz_poll(fuzz_file_t *f)
{
    uint32_t  events;

    switch (f->type) {

    case FUZZ_LISTEN:
        return (fuzz_running && fuzz_waiting && f->port == fuzz_client->port)
               ? EPOLLIN : 0;

    case FUZZ_SOCKET:
        return EPOLLHUP|EPOLLOUT;

    default:
        break;
    }

    if (f->reset || f->error) {
        return EPOLLIN|EPOLLRDHUP|EPOLLOUT|EPOLLERR|EPOLLHUP;
    }

    if (!f->connected) {
        return 0;
    }

    events = 0;

    if (f->pos != f->last || f->eof
        || (f->type == FUZZ_RESOLVER && fuzz_nanswers))
    {
        events |= EPOLLIN;
    }

    if (f->eof) {
        events |= EPOLLRDHUP;
    }

    if (f->eof && f->shut) {
        events |= EPOLLHUP;
    }

    if (f->room || f->shut) {
        events |= EPOLLOUT;
    }

    return events;
}


/* our arguments and environment stay what they are */

ngx_int_t
__wrap_ngx_init_setproctitle(ngx_log_t *log)
{
    return NGX_OK;
}


/* what a thread would do is done at once, and told of later */

ngx_int_t
__wrap_ngx_thread_task_post(ngx_thread_pool_t *tp, ngx_thread_task_t *task)
{
    task->handler(task->ctx, ngx_cycle->log);

    task->event.active = 1;
    task->next = fuzz_tasks;
    fuzz_tasks = task;

    return NGX_OK;
}


int
__wrap_epoll_wait(int ep, struct epoll_event *list, int n, int timeout)
{
    int           i, events;
    uint32_t      revents;
    fuzz_file_t  *f;

    int __real_epoll_wait(int ep, struct epoll_event *list, int n,
        int timeout);

    if (!fuzz_running) {
        return __real_epoll_wait(ep, list, n, timeout);
    }

    for ( ;; ) {

        events = 0;

        for (i = 0; i < FUZZ_FILES && events < n; i++) {
            f = &fuzz_files[i];

            if (f->type == FUZZ_FREE || f->events == 0) {
                continue;
            }

            if (f->connecting) {
                f->connecting = 0;
                f->edge = 1;
            }

            revents = fuzz_poll(f) & (f->events|EPOLLERR|EPOLLHUP);

            if (revents == 0 || ((f->events & EPOLLET) && !f->edge)) {
                continue;
            }

            f->edge = 0;

            list[events].events = revents;
            list[events].data = f->data;
            events++;
        }

        if (events || timeout == 0) {
            return events;
        }

        if (!fuzz_next()) {
            break;
        }
    }

    if (timeout == -1) {

        /* nothing is going to happen any more */

        fuzz_stuck = 1;

        /* as a signal would end it that says no more than that */

        ngx_event_timer_alarm = 1;
        errno = EINTR;

        return -1;
    }

    fuzz_clock += timeout;

    return 0;
}


/* nginx has done all it can; returns whether the client goes on */

static ngx_uint_t
fuzz_next(void)
{
    fuzz_file_t  *f;

    f = fuzz_peer;

    if (f == NULL || fuzz_over) {
        return 0;
    }

    if (fuzz_client->room && f->room == 0) {
        f->room = fuzz_client->room;
        f->edge = 1;

        return 1;
    }

    if (f->last != fuzz_end) {
        f->last += ngx_min(fuzz_client->segment,
                           (size_t) (fuzz_end - f->last));
        f->edge = 1;

        return 1;
    }

    fuzz_over = 1;

    if (fuzz_client->reset) {
        f->reset = 1;

    } else {
        f->eof = 1;
    }

    /* it goes on reading, or it is gone */

    f->room = (size_t) -1;
    f->edge = 1;

    return 1;
}


int
__wrap_epoll_ctl(int ep, int op, int fd, struct epoll_event *ee)
{
    fuzz_file_t  *f;

    int __real_epoll_ctl(int ep, int op, int fd, struct epoll_event *ee);

    f = fuzz_get(fd);

    if (f == NULL) {
        return __real_epoll_ctl(ep, op, fd, ee);
    }

    fuzz_assert((f->events != 0) == (op != EPOLL_CTL_ADD));

    if (op == EPOLL_CTL_DEL) {
        f->events = 0;
        return 0;
    }

    f->events = ee->events;
    f->data = ee->data;
    f->edge = 1;

    return 0;
}


int
__wrap_socket(int domain, int type, int protocol)
{
    int           fd;
    fuzz_file_t  *f;

    f = fuzz_open(FUZZ_SOCKET, &fd);

    if (type & SOCK_DGRAM) {
        f->type = FUZZ_RESOLVER;
        f->connected = 1;
        f->room = (size_t) -1;
    }

    return fd;
}


int
__wrap_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
    fuzz_get(fd)->port = ngx_inet_get_port((struct sockaddr *) sa);

    return 0;
}


int
__wrap_listen(int fd, int backlog)
{
    fuzz_get(fd)->type = FUZZ_LISTEN;

    return 0;
}


int
__wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
    int                  s;
    fuzz_file_t         *f;
    struct sockaddr_in  *sin;

    f = fuzz_get(fd);

    if (!fuzz_waiting || f->port != fuzz_client->port) {
        return fuzz_errno(EAGAIN);
    }

    fuzz_waiting = 0;

    f = fuzz_open(FUZZ_CLIENT, &s);
    fuzz_peer = f;

    f->port = fuzz_client->port;
    f->connected = 1;
    f->room = fuzz_client->room ? fuzz_client->room : (size_t) -1;
    f->out = &fuzz_result->sent;

    f->pos = fuzz_client->data;
    f->last = f->pos + ngx_min(fuzz_client->first, fuzz_client->len);
    fuzz_end = f->pos + fuzz_client->len;

    sin = (struct sockaddr_in *) sa;
    *len = sizeof(struct sockaddr_in);

    ngx_memzero(sin, sizeof(struct sockaddr_in));

    sin->sin_family = AF_INET;
    sin->sin_addr.s_addr = htonl(0xc0000201);
    sin->sin_port = htons(40000);

    return s;
}


int
__wrap_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
    return __wrap_accept4(fd, sa, len, 0);
}


/* by their port targets are of several kinds */

int
__wrap_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    fuzz_file_t  *f;

    static const u_char  hello[] = "hello";

    f = fuzz_get(fd);

    if (f->type == FUZZ_RESOLVER) {
        return 0;
    }

    fuzz_assert(f->type == FUZZ_SOCKET);

    f->type = FUZZ_TARGET;
    f->port = ngx_inet_get_port((struct sockaddr *) sa);
    f->room = (size_t) -1;

    fuzz_assert(fuzz_result->ntargets < FUZZ_TARGETS);

    f->out = &fuzz_result->targets[fuzz_result->ntargets++];

    switch (f->port) {

    case 80:  /* is there at once, speaks first, and has no more to say */
        f->connected = 1;
        f->edge = 1;
        f->pos = hello;
        f->last = hello + sizeof(hello) - 1;
        f->eof = 1;

        return 0;

    case 81:  /* nobody is there */
        f->error = ECONNREFUSED;
        f->connecting = 1;
        break;

    case 82:  /* no answer */
        break;

    default:
        f->connected = 1;
        f->connecting = 1;
    }

    return fuzz_errno(EINPROGRESS);
}


int
__wrap_shutdown(int fd, int how)
{
    fuzz_file_t  *f;

    static const u_char  bye[] = "bye";

    f = fuzz_get(fd);

    if (f->reset) {
        return fuzz_errno(ENOTCONN);
    }

    if (how == SHUT_RD || f->shut) {
        return 0;
    }

    f->shut = 1;

    if (f->type == FUZZ_CLIENT) {
        fuzz_result->first = !fuzz_over;
        return 0;
    }

    /* a target ends when nginx does */

    if (!f->eof) {
        f->eof = 1;
        f->pos = bye;
        f->last = bye + sizeof(bye) - 1;
    }

    f->edge = 1;

    return 0;
}


int
__wrap_close(int fd)
{
    fuzz_file_t  *f;

    int __real_close(int fd);

    f = fuzz_get(fd);

    if (f == NULL) {
        return __real_close(fd);
    }

    if (f == fuzz_peer) {

        if (!fuzz_over) {
            fuzz_result->first = 1;
        }

        fuzz_result->aborted = f->linger;
        fuzz_peer = NULL;
    }

    ngx_memzero(f, sizeof(fuzz_file_t));

    return 0;
}


static ssize_t
fuzz_read(fuzz_file_t *f, void *buf, size_t size, int flags)
{
    size_t  n;

    if (f->error) {
        return fuzz_errno(f->error);
    }

    if (f->reset) {
        return fuzz_errno(ECONNRESET);
    }

    if (!f->connected) {
        return fuzz_errno(ENOTCONN);
    }

    if (f->type == FUZZ_RESOLVER && fuzz_nanswers) {
        n = ngx_min(size, fuzz_answers[0].len);
        memcpy(buf, fuzz_answers[0].data, n);

        fuzz_nanswers--;
        memmove(fuzz_answers, fuzz_answers + 1,
                fuzz_nanswers * sizeof(fuzz_answer_t));

        return n;
    }

    n = ngx_min(size, (size_t) (f->last - f->pos));

    if (n == 0) {
        return f->eof ? 0 : fuzz_errno(EAGAIN);
    }

    memcpy(buf, f->pos, n);

    if (!(flags & MSG_PEEK)) {
        f->pos += n;
    }

    return n;
}


ssize_t
__wrap_recv(int fd, void *buf, size_t size, int flags)
{
    return fuzz_read(fuzz_get(fd), buf, size, flags);
}


ssize_t
__wrap_readv(int fd, const struct iovec *iov, int n)
{
    int           i;
    size_t        size;
    ssize_t       rc;
    fuzz_file_t  *f;

    f = fuzz_get(fd);
    size = 0;

    for (i = 0; i < n; i++) {
        rc = fuzz_read(f, iov[i].iov_base, iov[i].iov_len, 0);

        if (rc <= 0) {
            return size ? (ssize_t) size : rc;
        }

        size += rc;

        if ((size_t) rc != iov[i].iov_len) {
            break;
        }
    }

    return size;
}


static ssize_t
fuzz_write(fuzz_file_t *f, const void *buf, size_t size)
{
    size_t  n;

    if (f->error || f->reset || f->shut) {
        return fuzz_errno(EPIPE);
    }

    if (!f->connected || f->room == 0) {
        return fuzz_errno(EAGAIN);
    }

    n = ngx_min(size, f->room);

    if (f->room != (size_t) -1) {
        f->room -= n;
    }

    if (f->type == FUZZ_RESOLVER) {
        fuzz_resolve(buf, size);
        f->edge = 1;

        return size;
    }

    fuzz_put(f->out, buf, n);

    return n;
}


/* all names are ours, but for those that begin with an "n" */

static void
fuzz_resolve(const u_char *query, size_t size)
{
    u_char         *p;
    fuzz_answer_t  *a;

    static const u_char  address[] = "\xc0\x0c\0\1\0\1\0\0\0\1\0\4"
                                     "\x7f\0\0\1";

    fuzz_assert(size > 17 && size < 512 && fuzz_nanswers < FUZZ_ANSWERS);

    a = &fuzz_answers[fuzz_nanswers++];
    p = a->data;

    memcpy(p, query, size);
    a->len = size;

    p[2] = 0x81;

    if (query[13] == 'n') {
        p[3] = 0x83;
        return;
    }

    p[3] = 0x80;
    p[7] = 1;

    memcpy(p + size, address, sizeof(address) - 1);
    a->len += sizeof(address) - 1;
}


ssize_t
__wrap_send(int fd, const void *buf, size_t size, int flags)
{
    return fuzz_write(fuzz_get(fd), buf, size);
}


ssize_t
__wrap_writev(int fd, const struct iovec *iov, int n)
{
    int           i;
    size_t        size;
    ssize_t       rc;
    fuzz_file_t  *f;

    f = fuzz_get(fd);
    size = 0;

    for (i = 0; i < n; i++) {
        rc = fuzz_write(f, iov[i].iov_base, iov[i].iov_len);

        if (rc < 0) {
            return size ? (ssize_t) size : rc;
        }

        size += rc;

        if ((size_t) rc != iov[i].iov_len) {
            break;
        }
    }

    return size;
}


/* logs */

ssize_t
__wrap_write(int fd, const void *buf, size_t size)
{
    const char  *level;

    static int  verbose = -1;

    ssize_t __real_write(int fd, const void *buf, size_t size);

    if (!fuzz_running) {
        return __real_write(fd, buf, size);
    }

    if (fd == fuzz_access_fd) {
        fuzz_put(&fuzz_result->log, buf, size);
        return size;
    }

    if (fd != fuzz_error_fd) {
        return __real_write(fd, buf, size);
    }

    fuzz_put(&fuzz_result->error, buf, size);

    if (verbose == -1) {
        verbose = (getenv("FUZZ_VERBOSE") != NULL);
    }

    /* nothing that a client sends is worth these; a time is in front */

    level = (const char *) buf + sizeof("1970/09/28 12:00:00 ") - 1;

    if (ngx_strncmp(level, "[alert]", 7) == 0
        || ngx_strncmp(level, "[crit]", 6) == 0
        || ngx_strncmp(level, "[emerg]", 7) == 0)
    {
        (void) __real_write(STDERR_FILENO, buf, size);
        abort();
    }

    if (verbose) {
        (void) __real_write(STDERR_FILENO, buf, size);
    }

    return size;
}


int
__wrap_getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
    struct sockaddr_in  *sin;

    sin = (struct sockaddr_in *) sa;

    ngx_memzero(sin, sizeof(struct sockaddr_in));

    sin->sin_family = AF_INET;
    sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sin->sin_port = htons(fuzz_get(fd)->type == FUZZ_TARGET
                          ? 50000 : fuzz_get(fd)->port);
    *len = sizeof(struct sockaddr_in);

    return 0;
}


int
__wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    fuzz_file_t      *f;
    struct tcp_info   ti;

    f = fuzz_get(fd);

    if (level == SOL_SOCKET && name == SO_ERROR) {
        *(int *) value = f->reset ? ECONNRESET : f->error;
        return 0;
    }

    if (level == IPPROTO_TCP && name == TCP_INFO) {
        ngx_memzero(&ti, sizeof(struct tcp_info));
        ti.tcpi_state = f->reset ? TCP_CLOSE : TCP_ESTABLISHED;

        memcpy(value, &ti, ngx_min(*len, sizeof(struct tcp_info)));
        return 0;
    }

    return fuzz_errno(ENOPROTOOPT);
}


int
__wrap_setsockopt(int fd, int level, int name, const void *value,
    socklen_t len)
{
    fuzz_file_t          *f;
    const struct linger  *linger;

    f = fuzz_get(fd);

    if (level == SOL_SOCKET && name == SO_LINGER) {
        linger = value;
        f->linger = (linger->l_onoff && linger->l_linger == 0);
    }

    return 0;
}


int
__wrap_ioctl(int fd, unsigned long request, void *arg)
{
    fuzz_file_t  *f;

    int __real_ioctl(int fd, unsigned long request, void *arg);

    f = fuzz_get(fd);

    if (f == NULL) {
        return __real_ioctl(fd, request, arg);
    }

    switch (request) {

    case FIONREAD:
        *(int *) arg = f->last - f->pos;
        return 0;

    case TIOCOUTQ:
        *(int *) arg = 0;
        return 0;

    default:
        return 0;
    }
}


int
__wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    int __real_clock_gettime(clockid_t id, struct timespec *ts);

    if (!fuzz_running) {
        return __real_clock_gettime(id, ts);
    }

    ts->tv_sec = fuzz_clock / 1000;
    ts->tv_nsec = fuzz_clock % 1000 * 1000000;

    return 0;
}


int
__wrap_gettimeofday(struct timeval *tv, void *tz)
{
    tv->tv_sec = fuzz_client ? fuzz_client->time : 1;
    tv->tv_usec = 0;

    return 0;
}


static int
fuzz_errno(int err)
{
    errno = err;

    return -1;
}
