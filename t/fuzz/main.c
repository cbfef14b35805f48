
/*
 * A driver for a fuzz target where there is no libFuzzer: it makes inputs of
 * the target's seeds, by chance, and the same ones for the same number.
 *
 *     fuzz-socks [-s SEED] [-n COUNT | -t SECONDS]    10 seconds
 *     fuzz-socks FILE ...                             inputs that were kept
 *     fuzz-socks -w DIRECTORY                         the seeds, for libFuzzer
 *
 * The target runs in a process of its own.  If that dies, or hangs, its input
 * is kept as a file.
 */


#include "fuzz.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>


#define FUZZ_MAX      1400         /* bytes */
#define FUZZ_HANG     20           /* seconds */
#define FUZZ_ENOUGH   200000       /* inputs, to have reached all places */


/* what the processes share */

typedef struct {
    uint64_t  count;
    unsigned  done:1;              /* all went through */
    size_t    len;
    u_char    data[FUZZ_MAX];
} fuzz_input_t;


static fuzz_input_t  *fuzz_input;
static uint64_t       fuzz_state;


/* xorshift64* */

static uint32_t
fuzz_random(uint32_t n)
{
    fuzz_state ^= fuzz_state >> 12;
    fuzz_state ^= fuzz_state << 25;
    fuzz_state ^= fuzz_state >> 27;

    return (uint32_t) ((fuzz_state * 2685821657736338717ull) >> 32) % n;
}


static double
fuzz_seconds(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}


/* puts n bytes in front of what is there; without data a run of one byte */

static size_t
fuzz_insert(u_char *p, size_t len, size_t at, const void *data, size_t n)
{
    n = ngx_min(n, FUZZ_MAX - len);

    memmove(p + at + n, p + at, len - at);

    if (data) {
        memcpy(p + at, data, n);

    } else {
        memset(p + at, "\0\1u.A:1\xff"[fuzz_random(8)], n);
    }

    return len + n;
}


static size_t
fuzz_mutate(u_char *p, size_t len)
{
    size_t               at, n;
    u_char               piece[FUZZ_MAX];
    const fuzz_bytes_t  *bytes;

    /* a length has its byte, and one of it is where limits are */

    static const u_char  interesting[] = {
        0, 1, 2, 3, 4, 5, 16, 62, 63, 64, 65, 127, 128, 129, 252, 253, 254, 255
    };

    at = fuzz_random(len + 1);

    switch (fuzz_random(11)) {

    case 0:  /* another bit */
        if (at < len) {
            p[at] ^= 1 << fuzz_random(8);
        }

        return len;

    case 1:  /* another byte */
        if (at < len) {
            p[at] = fuzz_random(256);
        }

        return len;

    case 2:
        if (at < len) {
            p[at] = interesting[fuzz_random(sizeof(interesting))];
        }

        return len;

    case 3:  /* one more or less */
        if (at < len) {
            p[at] += fuzz_random(2) ? 1 : -1;
        }

        return len;

    case 4:  /* the length of what follows, about */
        if (at < len) {
            p[at] = len - at - 1 - fuzz_random(4);
        }

        return len;

    case 5:  /* cut */
        return at;

    case 6:  /* some bytes less */
        n = fuzz_random(10);
        n = ngx_min(n, len - at);
        memmove(p + at, p + at + n, len - at - n);

        return len - n;

    case 7:  /* some bytes once more */
        n = fuzz_random(100);
        n = ngx_min(n, len - at);
        memcpy(piece, p + at, n);

        return fuzz_insert(p, len, at, piece, n);

    case 8:  /* a run of one, of about a length that is a limit */
        n = interesting[fuzz_random(sizeof(interesting))] + fuzz_random(3);

        return fuzz_insert(p, len, at, NULL, n);

    case 9:  /* something that means something */
        bytes = &fuzz_target.words[fuzz_random(fuzz_target.nwords)];

        return fuzz_insert(p, len, at, bytes->data, bytes->len);

    default: /* goes on as another seed */
        bytes = &fuzz_target.seeds[fuzz_random(fuzz_target.nseeds)];
        n = fuzz_random(bytes->len + 1);

        return fuzz_insert(p, at, at, bytes->data + n, bytes->len - n);
    }
}


/*
 * A string of a seed whose length is in the byte before it, made longer with
 * that byte: chance alone seldom finds both.
 */

static size_t
fuzz_lengthen(u_char *p, size_t len)
{
    size_t  at, n, i;
    u_char  name[255];

    if (len == 0) {
        return len;
    }

    at = fuzz_random(len);
    n = p[at];

    if (n == 0 || n > len - at - 1) {
        return len;
    }

    memmove(p + at + 1, p + at + 1 + n, len - at - 1 - n);
    len -= n;

    n = fuzz_random(4) ? fuzz_random(256) : 252 + fuzz_random(4);
    n = ngx_min(n, FUZZ_MAX - len);

    for (i = 0; i < n; i++) {
        name[i] = (i % 64 == 63) ? '.' : 'a' + i % 26;
    }

    p[at] = n;

    return fuzz_insert(p, len, at + 1, name, n);
}


static void
fuzz_generate(void)
{
    u_char              *p;
    size_t               len, n;
    const fuzz_bytes_t  *seed;

    p = fuzz_input->data;
    len = 0;

    /* some are glued */

    do {
        seed = &fuzz_target.seeds[fuzz_random(fuzz_target.nseeds)];
        len = fuzz_insert(p, len, len, seed->data, seed->len);
    } while (fuzz_random(8) == 0);

    if (fuzz_random(4) == 0) {
        len = fuzz_lengthen(p, len);
    }

    for (n = fuzz_random(6); n; n--) {
        len = fuzz_mutate(p, len);
    }

    if (fuzz_target.segmented) {
        len = ngx_min(len, FUZZ_MAX - 1);
        memmove(p + 1, p, len);
        len++;

        p[0] = fuzz_random(3) ? 1 + fuzz_random(12) : fuzz_random(256);
    }

    fuzz_input->len = len;
}


static void
fuzz_run(void)
{
    u_char  *data;

    data = fuzz_copy(fuzz_input->data, fuzz_input->len);

    (void) LLVMFuzzerTestOneInput(data, fuzz_input->len);

    free(data);
}


/* returns whether all is well, which is also to have come everywhere */

static ngx_uint_t
fuzz_loop(const char *name, uint64_t seed, uint64_t count, double seconds)
{
    double      start, time;
    ngx_uint_t  i, ok;

    /* no state is all zeroes, and near ones differ */

    fuzz_state = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;

    start = fuzz_seconds();

    for (fuzz_input->count = 0;
         count == 0 || fuzz_input->count < count;
         fuzz_input->count++)
    {
        if (fuzz_input->count % 256 == 0) {
            alarm(FUZZ_HANG);

            if (count == 0 && fuzz_seconds() - start >= seconds) {
                break;
            }
        }

        fuzz_generate();
        fuzz_run();
    }

    alarm(0);

    time = fuzz_seconds() - start;
    ok = 1;

    printf("%s: %lu inputs in %.1f s, seed %lu\n", name,
           (unsigned long) fuzz_input->count, time, (unsigned long) seed);

    for (i = 0; i < fuzz_target.nreached; i++) {
        printf("%12lu %s\n", (unsigned long) fuzz_target.reached[i].count,
               fuzz_target.reached[i].name);

        if (fuzz_target.reached[i].count == 0
            && fuzz_input->count >= FUZZ_ENOUGH)
        {
            printf("%s: never reached: %s\n", name,
                   fuzz_target.reached[i].name);
            ok = 0;
        }
    }

    return ok;
}


static ngx_uint_t
fuzz_write(const char *path, const void *data, size_t len)
{
    FILE        *f;
    ngx_uint_t   ok;

    f = fopen(path, "wb");
    if (f == NULL) {
        perror(path);
        return 0;
    }

    ok = (fwrite(data, 1, len, f) == len);

    return fclose(f) == 0 && ok;
}


static ngx_uint_t
fuzz_seeds(const char *directory)
{
    char         path[4096];
    size_t       len;
    u_char       data[FUZZ_MAX];
    ngx_uint_t   i;

    for (i = 0; i < fuzz_target.nseeds; i++) {
        len = 0;

        if (fuzz_target.segmented) {
            data[len++] = 1 + i % 8;
        }

        memcpy(data + len, fuzz_target.seeds[i].data,
               fuzz_target.seeds[i].len);
        len += fuzz_target.seeds[i].len;

        snprintf(path, sizeof(path), "%s/seed%lu", directory,
                 (unsigned long) i);

        if (!fuzz_write(path, data, len)) {
            return 0;
        }
    }

    return 1;
}


static ngx_uint_t
fuzz_file(const char *path)
{
    FILE  *f;

    f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 0;
    }

    fuzz_input->len = fread(fuzz_input->data, 1, FUZZ_MAX, f);
    fclose(f);

    fuzz_run();

    printf("%s: nothing found\n", path);

    return 1;
}


/* says how the other process ended, and keeps what it died of */

static int
fuzz_report(const char *name, int status)
{
    char    path[4096];
    size_t  i;

    if (WIFEXITED(status) && WEXITSTATUS(status) < 2) {
        return WEXITSTATUS(status);
    }

    if (fuzz_input->done) {
        fprintf(stderr, "\n%s: died at its end\n", name);
        return 1;
    }

    snprintf(path, sizeof(path), "%s.found", name);

    fprintf(stderr, "\n%s: input %lu %s:\n    ", name,
            (unsigned long) fuzz_input->count,
            WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
            ? "hangs" : "is fatal");

    for (i = 0; i < fuzz_input->len; i++) {
        fprintf(stderr, "%02x%s", fuzz_input->data[i],
                i % 32 == 31 ? "\n    " : " ");
    }

    fprintf(stderr, "\n");

    if (fuzz_write(path, fuzz_input->data, fuzz_input->len)) {
        fprintf(stderr, "once more: %s %s\n", name, path);
    }

    return 1;
}


/* how a sanitizer ends is told from how the driver does */

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *
__asan_default_options(void)
{
    return "exitcode=99:detect_stack_use_after_return=1";
}

const char *
__ubsan_default_options(void)
{
    return "exitcode=99:print_stacktrace=1";
}


int
main(int argc, char **argv)
{
    int          opt, status;
    pid_t        pid;
    double       seconds;
    uint64_t     seed, count;
    ngx_uint_t   ok;
    const char  *directory;

    seed = 1;
    count = 0;
    seconds = 10;
    directory = NULL;

    while ((opt = getopt(argc, argv, "s:n:t:w:")) != -1) {
        switch (opt) {
        case 's': seed = strtoull(optarg, NULL, 10); break;
        case 'n': count = strtoull(optarg, NULL, 10); break;
        case 't': seconds = strtod(optarg, NULL); break;
        case 'w': directory = optarg; break;
        default:  return 2;
        }
    }

    if (directory) {
        return !fuzz_seeds(directory);
    }

    fuzz_input = mmap(NULL, sizeof(fuzz_input_t), PROT_READ|PROT_WRITE,
                      MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    if (fuzz_input == MAP_FAILED) {
        perror("mmap");
        return 2;
    }

    pid = fork();

    if (pid == 0) {
        ok = 1;

        if (optind < argc) {
            while (ok && optind < argc) {
                ok = fuzz_file(argv[optind++]);
            }

        } else {
            ok = fuzz_loop(argv[0], seed, count, seconds);
        }

        /* leaks are looked for on the way out */

        fuzz_input->done = 1;

        exit(!ok);
    }

    if (pid == -1 || waitpid(pid, &status, 0) != pid) {
        perror("fork");
        return 2;
    }

    return fuzz_report(argv[0], status);
}
