
/*
 * Resolve: the system's own name servers and hosts file (resolv.conf(5),
 * hosts(5)).
 */


#include "ngx_tunnel_resolve.h"


#define NGX_TUNNEL_RESOLV_CONF    "/etc/resolv.conf"
#define NGX_TUNNEL_HOSTS          "/etc/hosts"

#define NGX_TUNNEL_NAME_SERVERS   3            /* as MAXNS of resolv.h */
#define NGX_TUNNEL_FILE_SIZE      (1024 * 1024)


/* one line of such a file, cut into words at white space */

typedef struct {
    u_char       *pos;
    u_char       *last;
} ngx_tunnel_words_t;


static ngx_int_t ngx_tunnel_system_servers(ngx_conf_t *cf, ngx_array_t *names);
static ngx_int_t ngx_tunnel_system_read_hosts(ngx_conf_t *cf,
    ngx_tunnel_system_t *system);
static ngx_int_t ngx_tunnel_system_add_host(ngx_conf_t *cf,
    ngx_rbtree_t *tree, ngx_array_t *keys, ngx_str_t *name, ngx_addr_t *addr);
static ngx_int_t ngx_tunnel_system_file(ngx_conf_t *cf, char *name,
    ngx_str_t *text);
static ngx_uint_t ngx_tunnel_system_line(ngx_str_t *text,
    ngx_tunnel_words_t *line);
static ngx_uint_t ngx_tunnel_system_word(ngx_tunnel_words_t *line,
    ngx_str_t *word);


typedef struct {
    ngx_str_node_t   sn;
    ngx_array_t     *addrs;
} ngx_tunnel_host_t;


ngx_tunnel_system_t *
ngx_tunnel_system_create(ngx_conf_t *cf)
{
    ngx_array_t           names;
    ngx_tunnel_system_t  *system;

    system = ngx_pcalloc(cf->pool, sizeof(ngx_tunnel_system_t));
    if (system == NULL) {
        return NULL;
    }

    if (ngx_array_init(&names, cf->temp_pool, NGX_TUNNEL_NAME_SERVERS,
                       sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_tunnel_system_servers(cf, &names) != NGX_OK) {
        return NULL;
    }

    system->resolver = ngx_resolver_create(cf, names.elts, names.nelts);
    if (system->resolver == NULL) {
        return NULL;
    }

    if (ngx_tunnel_system_read_hosts(cf, system) != NGX_OK) {
        return NULL;
    }

    return system;
}


static ngx_int_t
ngx_tunnel_system_servers(ngx_conf_t *cf, ngx_array_t *names)
{
    u_char               buf[16];
    ngx_str_t            text, word, *name;
    ngx_tunnel_words_t   line;

    if (ngx_tunnel_system_file(cf, NGX_TUNNEL_RESOLV_CONF, &text) != NGX_OK) {
        return NGX_ERROR;
    }

    while (names->nelts < NGX_TUNNEL_NAME_SERVERS
           && ngx_tunnel_system_line(&text, &line))
    {
        if (!ngx_tunnel_system_word(&line, &word)
            || word.len != sizeof("nameserver") - 1
            || ngx_strncmp(word.data, "nameserver", word.len) != 0
            || !ngx_tunnel_system_word(&line, &word))
        {
            continue;
        }

        /* an address with a scope ("fe80::1%eth0") is left to libc */

        if (ngx_inet_addr(word.data, word.len) == INADDR_NONE
            && ngx_inet6_addr(word.data, word.len, buf) != NGX_OK)
        {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "name server \"%V\" in "
                               NGX_TUNNEL_RESOLV_CONF " is ignored", &word);
            continue;
        }

        name = ngx_array_push(names);
        if (name == NULL) {
            return NGX_ERROR;
        }

        name->data = ngx_pnalloc(cf->pool, word.len + 3);
        if (name->data == NULL) {
            return NGX_ERROR;
        }

        name->len = ngx_sprintf(name->data,
                                ngx_strlchr(word.data, word.data + word.len,
                                            ':')
                                ? "[%V]%Z" : "%V%Z", &word)
                    - name->data - 1;
    }

    if (names->nelts == 0) {

        /* what libc does */

        name = ngx_array_push(names);
        if (name == NULL) {
            return NGX_ERROR;
        }

        ngx_str_set(name, "127.0.0.1");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_tunnel_system_read_hosts(ngx_conf_t *cf, ngx_tunnel_system_t *system)
{
    ngx_str_t            text, word;
    ngx_addr_t           addr;
    ngx_array_t          keys;
    ngx_rbtree_t         tree;
    ngx_hash_init_t      hash;
    ngx_rbtree_node_t    sentinel;
    ngx_tunnel_words_t   line;

    if (ngx_tunnel_system_file(cf, NGX_TUNNEL_HOSTS, &text) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_array_init(&keys, cf->temp_pool, 16, sizeof(ngx_hash_key_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_rbtree_init(&tree, &sentinel, ngx_str_rbtree_insert_value);

    while (ngx_tunnel_system_line(&text, &line)) {

        if (!ngx_tunnel_system_word(&line, &word)
            || ngx_parse_addr(cf->pool, &addr, word.data, word.len) != NGX_OK)
        {
            continue;
        }

        while (ngx_tunnel_system_word(&line, &word)) {

            if (ngx_tunnel_system_add_host(cf, &tree, &keys, &word, &addr)
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    if (keys.nelts == 0) {
        return NGX_OK;
    }

    hash.hash = NULL;
    hash.key = ngx_hash_key;
    hash.max_size = ngx_max(512, keys.nelts * 2);
    hash.bucket_size = ngx_align(512, ngx_cacheline_size);
    hash.name = "tunnel_hosts_hash";
    hash.pool = cf->pool;
    hash.temp_pool = NULL;

    if (ngx_hash_init(&hash, keys.elts, keys.nelts) != NGX_OK) {
        return NGX_ERROR;
    }

    system->hosts = hash.hash;

    return NGX_OK;
}


/* the addresses live in the configuration's pool, the tree does not */

static ngx_int_t
ngx_tunnel_system_add_host(ngx_conf_t *cf, ngx_rbtree_t *tree,
    ngx_array_t *keys, ngx_str_t *name, ngx_addr_t *addr)
{
    uint32_t            hash;
    ngx_addr_t         *a;
    ngx_hash_key_t     *key;
    ngx_tunnel_host_t  *host;

    if (name->len > 255) {
        return NGX_OK;
    }

    ngx_strlow(name->data, name->data, name->len);

    hash = ngx_crc32_long(name->data, name->len);

    host = (ngx_tunnel_host_t *) ngx_str_rbtree_lookup(tree, name, hash);

    if (host == NULL) {
        host = ngx_palloc(cf->temp_pool, sizeof(ngx_tunnel_host_t));
        if (host == NULL) {
            return NGX_ERROR;
        }

        host->sn.node.key = hash;
        host->sn.str = *name;

        ngx_rbtree_insert(tree, &host->sn.node);

        key = ngx_array_push(keys);
        if (key == NULL) {
            return NGX_ERROR;
        }

        host->addrs = ngx_array_create(cf->pool, 1, sizeof(ngx_addr_t));
        if (host->addrs == NULL) {
            return NGX_ERROR;
        }

        key->key = *name;
        key->key_hash = ngx_hash_key(name->data, name->len);
        key->value = host->addrs;
    }

    a = ngx_array_push(host->addrs);
    if (a == NULL) {
        return NGX_ERROR;
    }

    *a = *addr;

    return NGX_OK;
}


ngx_array_t *
ngx_tunnel_system_hosts(ngx_tunnel_system_t *system, ngx_str_t *name)
{
    if (system->hosts == NULL) {
        return NULL;
    }

    return ngx_hash_find(system->hosts, ngx_hash_key(name->data, name->len),
                         name->data, name->len);
}


/* a file that is not there is an empty one */

static ngx_int_t
ngx_tunnel_system_file(ngx_conf_t *cf, char *name, ngx_str_t *text)
{
    ssize_t          n;
    ngx_fd_t         fd;
    ngx_file_t       file;
    ngx_file_info_t  fi;

    ngx_str_null(text);

    fd = ngx_open_file((u_char *) name, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, ngx_errno,
                           ngx_open_file_n " \"%s\" failed", name);
        return NGX_OK;
    }

    ngx_memzero(&file, sizeof(ngx_file_t));
    file.fd = fd;
    file.log = cf->log;
    file.name.data = (u_char *) name;
    file.name.len = ngx_strlen(name);

    n = NGX_ERROR;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_fd_info_n " \"%s\" failed", name);
        goto done;
    }

    text->len = ngx_min(ngx_file_size(&fi), NGX_TUNNEL_FILE_SIZE);

    text->data = ngx_pnalloc(cf->temp_pool, text->len + 1);
    if (text->data == NULL) {
        goto done;
    }

    n = ngx_read_file(&file, text->data, text->len, 0);

    if (n != NGX_ERROR) {
        text->len = n;
    }

done:

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%s\" failed", name);
    }

    return n == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/* takes a line off the text, without its comment; 0 at the end */

static ngx_uint_t
ngx_tunnel_system_line(ngx_str_t *text, ngx_tunnel_words_t *line)
{
    u_char  *p, *last;

    if (text->len == 0) {
        return 0;
    }

    p = text->data;
    last = p + text->len;

    line->pos = p;
    line->last = NULL;

    for ( /* void */ ; p < last && *p != LF; p++) {

        if ((*p == '#' || *p == ';') && line->last == NULL) {
            line->last = p;
        }
    }

    if (line->last == NULL) {
        line->last = p;
    }

    if (p < last) {
        p++;
    }

    text->len = last - p;
    text->data = p;

    return 1;
}


static ngx_uint_t
ngx_tunnel_system_word(ngx_tunnel_words_t *line, ngx_str_t *word)
{
    while (line->pos < line->last && *line->pos <= ' ') {
        line->pos++;
    }

    word->data = line->pos;

    while (line->pos < line->last && *line->pos > ' ') {
        line->pos++;
    }

    word->len = line->pos - word->data;

    return word->len != 0;
}
