
/*
 * Quotas: a tree of keys in shared memory, as in limit_conn, with an atomic
 * counter in each node.
 */


#include "ngx_tunnel_quota.h"


/* how many old keys are looked at to make room for a new one */

#define NGX_TUNNEL_QUOTA_SCAN  1000


/* that a counter can count to */

#define NGX_TUNNEL_QUOTA_MAX                                                  \
    ((off_t) (((ngx_atomic_uint_t) -1) >> 1))


typedef struct {
    u_char                      color;
    u_char                      dummy;
    u_short                     len;
    ngx_queue_t                 queue;
    ngx_msec_t                  start;         /* of the period */
    ngx_atomic_t                used;          /* bytes in it */
    ngx_uint_t                  tunnels;       /* that hold the node */
    u_char                      data[1];
} ngx_tunnel_quota_node_t;


typedef struct {
    ngx_rbtree_t                rbtree;
    ngx_rbtree_node_t           sentinel;
    ngx_queue_t                 queue;         /* keys without a tunnel, the
                                                  last used one first */
} ngx_tunnel_quota_shared_t;


struct ngx_tunnel_quota_s {
    ngx_str_t                   name;
    ngx_str_t                   key;           /* as it is configured */
    void                       *compiled;
    off_t                       limit;
    ngx_msec_t                  per;
    ngx_tunnel_quota_shared_t  *sh;
    ngx_slab_pool_t            *shpool;
};


typedef struct {
    ngx_tunnel_quota_t         *quota;
    ngx_tunnel_quota_node_t    *node;
} ngx_tunnel_quota_use_t;


struct ngx_tunnel_usage_s {
    ngx_uint_t                  n;
    ngx_tunnel_quota_use_t      use[1];
};


static ngx_int_t ngx_tunnel_quota_init(ngx_shm_zone_t *shm_zone, void *data);
static char *ngx_tunnel_quota_parameter(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_tunnel_quota_t *quota, ngx_str_t *value, ssize_t *size);
static void ngx_tunnel_quota_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static ngx_int_t ngx_tunnel_quota_compare(ngx_str_t *key,
    ngx_tunnel_quota_node_t *qn);
static ngx_tunnel_quota_node_t *ngx_tunnel_quota_lookup(
    ngx_tunnel_quota_t *quota, ngx_str_t *key, uint32_t hash);
static ngx_tunnel_quota_node_t *ngx_tunnel_quota_create(
    ngx_tunnel_quota_t *quota, ngx_str_t *key, uint32_t hash);
static void ngx_tunnel_quota_expire(ngx_tunnel_quota_t *quota, ngx_uint_t n);
static void ngx_tunnel_quota_renew(ngx_tunnel_quota_t *quota,
    ngx_tunnel_quota_node_t *qn);
static ngx_uint_t ngx_tunnel_quota_is_over(ngx_tunnel_quota_t *quota,
    ngx_tunnel_quota_node_t *qn);
static void ngx_tunnel_quota_cleanup(void *data);


char *
ngx_tunnel_quota_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ssize_t              size;
    ngx_str_t           *value;
    ngx_uint_t           i;
    ngx_shm_zone_t      *shm_zone;
    ngx_tunnel_layer_t  *layer;
    ngx_tunnel_quota_t  *quota;

    layer = cmd->post;
    value = cf->args->elts;

    quota = ngx_pcalloc(cf->pool, sizeof(ngx_tunnel_quota_t));
    if (quota == NULL) {
        return NGX_CONF_ERROR;
    }

    quota->key = value[1];
    quota->limit = -1;

    quota->compiled = layer->compile(cf, &value[1]);
    if (quota->compiled == NULL) {
        return NGX_CONF_ERROR;
    }

    size = 0;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_tunnel_quota_parameter(cf, cmd, quota, &value[i], &size)
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (quota->name.len == 0 || quota->limit == -1 || quota->per == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have \"zone=name:size\", "
                           "\"limit=size\", and \"per=time\" parameters",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    shm_zone = ngx_shared_memory_add(cf, &quota->name, size, layer->tag);
    if (shm_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (shm_zone->data) {
        quota = shm_zone->data;

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%V \"%V\" is already bound to key \"%V\"",
                           &cmd->name, &quota->name, &quota->key);
        return NGX_CONF_ERROR;
    }

    shm_zone->init = ngx_tunnel_quota_init;
    shm_zone->data = quota;

    return NGX_CONF_OK;
}


static char *
ngx_tunnel_quota_parameter(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_tunnel_quota_t *quota, ngx_str_t *value, ssize_t *size)
{
    u_char     *p;
    ngx_int_t   msec;
    ngx_str_t   s;

    if (ngx_strncmp(value->data, "zone=", 5) == 0) {

        p = (u_char *) ngx_strchr(value->data, ':');

        if (p == NULL) {
            return ngx_tunnel_conf_invalid(cf, cmd, value,
                                           "zone=name:size");
        }

        quota->name.data = value->data + 5;
        quota->name.len = p - quota->name.data;

        s.data = p + 1;
        s.len = value->data + value->len - s.data;

        *size = ngx_parse_size(&s);

        if (*size == NGX_ERROR || quota->name.len == 0) {
            return ngx_tunnel_conf_invalid(cf, cmd, value, "zone=name:size");
        }

        if (*size < (ssize_t) (8 * ngx_pagesize)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "zone \"%V\" is too small, it must have at "
                               "least %uzk", &quota->name,
                               8 * ngx_pagesize / 1024);
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "limit=", 6) == 0) {
        s.data = value->data + 6;
        s.len = value->len - 6;

        quota->limit = ngx_parse_offset(&s);

        if (quota->limit == NGX_ERROR || quota->limit == 0
            || quota->limit > NGX_TUNNEL_QUOTA_MAX)
        {
            return ngx_tunnel_conf_invalid(cf, cmd, value,
                                           "limit= and a size, such as 10g");
        }

        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "per=", 4) == 0) {
        s.data = value->data + 4;
        s.len = value->len - 4;

        msec = ngx_parse_time(&s, 0);

        if (msec == NGX_ERROR || msec == 0) {
            return ngx_tunnel_conf_invalid(cf, cmd, value,
                                           "per= and a time, such as 1d");
        }

        quota->per = msec;

        return NGX_CONF_OK;
    }

    return ngx_tunnel_conf_invalid(cf, cmd, value,
                                   "zone=name:size, limit=size, or per=time");
}


char *
ngx_tunnel_quota(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t            *value;
    ngx_uint_t            i;
    ngx_array_t         **quotas;
    ngx_shm_zone_t       *shm_zone, **zones;
    ngx_tunnel_layer_t   *layer;

    quotas = (ngx_array_t **) (p + cmd->offset);
    layer = cmd->post;
    value = cf->args->elts;

    if (value[1].len == 0) {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[1],
                                       "\"off\" or the name of a "
                                       "relay_quota_zone");
    }

    if (*quotas == NULL) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {

        if (*quotas != NGX_CONF_UNSET_PTR) {
            return "is duplicate";
        }

        *quotas = NULL;

        return NGX_CONF_OK;
    }

    shm_zone = ngx_shared_memory_add(cf, &value[1], 0, layer->tag);
    if (shm_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (*quotas == NGX_CONF_UNSET_PTR) {
        *quotas = ngx_array_create(cf->pool, 1, sizeof(ngx_shm_zone_t *));
        if (*quotas == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    zones = (*quotas)->elts;

    for (i = 0; i < (*quotas)->nelts; i++) {
        if (zones[i] == shm_zone) {
            return "is duplicate";
        }
    }

    zones = ngx_array_push(*quotas);
    if (zones == NULL) {
        return NGX_CONF_ERROR;
    }

    *zones = shm_zone;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_tunnel_quota_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_tunnel_quota_t *old = data;

    size_t               len;
    ngx_tunnel_quota_t  *quota;

    quota = shm_zone->data;

    if (old) {

        if (quota->key.len != old->key.len
            || ngx_strncmp(quota->key.data, old->key.data, quota->key.len)
               != 0)
        {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                          "relay_quota_zone \"%V\" uses the \"%V\" key "
                          "while previously it used the \"%V\" key",
                          &shm_zone->shm.name, &quota->key, &old->key);
            return NGX_ERROR;
        }

        quota->sh = old->sh;
        quota->shpool = old->shpool;

        return NGX_OK;
    }

    quota->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (shm_zone->shm.exists) {
        quota->sh = quota->shpool->data;
        return NGX_OK;
    }

    quota->sh = ngx_slab_alloc(quota->shpool,
                               sizeof(ngx_tunnel_quota_shared_t));
    if (quota->sh == NULL) {
        return NGX_ERROR;
    }

    quota->shpool->data = quota->sh;

    ngx_rbtree_init(&quota->sh->rbtree, &quota->sh->sentinel,
                    ngx_tunnel_quota_insert);

    ngx_queue_init(&quota->sh->queue);

    len = sizeof(" in relay_quota_zone \"\"") + shm_zone->shm.name.len;

    quota->shpool->log_ctx = ngx_slab_alloc(quota->shpool, len);
    if (quota->shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(quota->shpool->log_ctx, " in relay_quota_zone \"%V\"%Z",
                &shm_zone->shm.name);

    quota->shpool->log_nomem = 0;

    return NGX_OK;
}


ngx_int_t
ngx_tunnel_quota_use(ngx_array_t *quotas, const ngx_tunnel_layer_t *layer,
    void *data, ngx_pool_t *pool, ngx_log_t *log, ngx_tunnel_usage_t **usage,
    ngx_str_t *what)
{
    uint32_t                   hash;
    ngx_str_t                  key;
    ngx_uint_t                 i;
    ngx_shm_zone_t           **zones;
    ngx_pool_cleanup_t        *cln;
    ngx_tunnel_quota_t        *quota;
    ngx_tunnel_usage_t        *u;
    ngx_tunnel_quota_node_t   *qn;

    *usage = NULL;

    if (quotas == NULL) {
        return NGX_OK;
    }

    cln = ngx_pool_cleanup_add(pool, sizeof(ngx_tunnel_usage_t)
                                     + sizeof(ngx_tunnel_quota_use_t)
                                       * (quotas->nelts - 1));
    if (cln == NULL) {
        ngx_str_null(what);
        return NGX_ERROR;
    }

    u = cln->data;
    u->n = 0;

    cln->handler = ngx_tunnel_quota_cleanup;

    zones = quotas->elts;

    for (i = 0; i < quotas->nelts; i++) {

        quota = zones[i]->data;
        *what = quota->name;

        if (layer->eval(data, quota->compiled, &key) != NGX_OK) {
            return NGX_ERROR;
        }

        if (key.len == 0) {
            continue;
        }

        if (key.len > 65535) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "the value of the \"%V\" key is more than "
                          "65535 bytes", &quota->key);
            return NGX_ERROR;
        }

        hash = ngx_crc32_short(key.data, key.len);

        ngx_shmtx_lock(&quota->shpool->mutex);

        qn = ngx_tunnel_quota_lookup(quota, &key, hash);

        if (qn == NULL) {
            qn = ngx_tunnel_quota_create(quota, &key, hash);

        } else if (qn->tunnels == 0) {
            ngx_queue_remove(&qn->queue);
        }

        if (qn) {
            qn->tunnels++;
        }

        ngx_shmtx_unlock(&quota->shpool->mutex);

        if (qn == NULL) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "relay_quota_zone \"%V\" has no room for a key",
                          &quota->name);
            return NGX_DECLINED;
        }

        u->use[u->n].quota = quota;
        u->use[u->n].node = qn;
        u->n++;
    }

    if (u->n == 0) {
        return NGX_OK;
    }

    *usage = u;

    for (i = 0; i < u->n; i++) {
        quota = u->use[i].quota;

        ngx_tunnel_quota_renew(quota, u->use[i].node);

        if ((off_t) u->use[i].node->used >= quota->limit) {
            *what = quota->name;
            return NGX_BUSY;
        }
    }

    return NGX_OK;
}


off_t
ngx_tunnel_quota_left(ngx_tunnel_usage_t *usage)
{
    off_t                     left, least;
    ngx_uint_t                i;
    ngx_tunnel_quota_use_t   *use;

    least = NGX_MAX_OFF_T_VALUE;

    for (i = 0; i < usage->n; i++) {
        use = &usage->use[i];

        ngx_tunnel_quota_renew(use->quota, use->node);

        left = use->quota->limit - (off_t) use->node->used;
        least = ngx_min(least, left);
    }

    return least;
}


void
ngx_tunnel_quota_spend(ngx_tunnel_usage_t *usage, off_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < usage->n; i++) {
        (void) ngx_atomic_fetch_add(&usage->use[i].node->used, n);
    }
}


static void
ngx_tunnel_quota_cleanup(void *data)
{
    ngx_tunnel_usage_t  *usage = data;

    ngx_uint_t                i;
    ngx_tunnel_quota_t       *quota;
    ngx_tunnel_quota_node_t  *qn;

    for (i = 0; i < usage->n; i++) {
        quota = usage->use[i].quota;
        qn = usage->use[i].node;

        ngx_shmtx_lock(&quota->shpool->mutex);

        if (--qn->tunnels == 0) {
            ngx_queue_insert_head(&quota->sh->queue, &qn->queue);
        }

        ngx_shmtx_unlock(&quota->shpool->mutex);
    }
}


/* a period that is over begins anew */

static void
ngx_tunnel_quota_renew(ngx_tunnel_quota_t *quota, ngx_tunnel_quota_node_t *qn)
{
    if (!ngx_tunnel_quota_is_over(quota, qn)) {
        return;
    }

    ngx_shmtx_lock(&quota->shpool->mutex);

    if (ngx_tunnel_quota_is_over(quota, qn)) {

        /* others look without the lock, in the opposite order */

        qn->used = 0;
        ngx_memory_barrier();
        qn->start = ngx_current_msec;
    }

    ngx_shmtx_unlock(&quota->shpool->mutex);
}


/* another worker's clock may be ahead of ours */

static ngx_uint_t
ngx_tunnel_quota_is_over(ngx_tunnel_quota_t *quota,
    ngx_tunnel_quota_node_t *qn)
{
    return (ngx_msec_int_t) (ngx_current_msec - qn->start)
           >= (ngx_msec_int_t) quota->per;
}


static ngx_tunnel_quota_node_t *
ngx_tunnel_quota_lookup(ngx_tunnel_quota_t *quota, ngx_str_t *key,
    uint32_t hash)
{
    ngx_int_t                 rc;
    ngx_rbtree_node_t        *node, *sentinel;
    ngx_tunnel_quota_node_t  *qn;

    node = quota->sh->rbtree.root;
    sentinel = quota->sh->rbtree.sentinel;

    while (node != sentinel) {

        if (hash != node->key) {
            node = (hash < node->key) ? node->left : node->right;
            continue;
        }

        qn = (ngx_tunnel_quota_node_t *) &node->color;

        rc = ngx_tunnel_quota_compare(key, qn);

        if (rc == 0) {
            return qn;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


static ngx_tunnel_quota_node_t *
ngx_tunnel_quota_create(ngx_tunnel_quota_t *quota, ngx_str_t *key,
    uint32_t hash)
{
    size_t                    size;
    ngx_rbtree_node_t        *node;
    ngx_tunnel_quota_node_t  *qn;

    size = offsetof(ngx_rbtree_node_t, color)
           + offsetof(ngx_tunnel_quota_node_t, data)
           + key->len;

    node = ngx_slab_alloc_locked(quota->shpool, size);

    if (node == NULL) {
        ngx_tunnel_quota_expire(quota, NGX_TUNNEL_QUOTA_SCAN);

        node = ngx_slab_alloc_locked(quota->shpool, size);
        if (node == NULL) {
            return NULL;
        }
    }

    node->key = hash;

    qn = (ngx_tunnel_quota_node_t *) &node->color;

    qn->len = (u_short) key->len;
    qn->start = ngx_current_msec;
    qn->used = 0;
    qn->tunnels = 0;
    ngx_memcpy(qn->data, key->data, key->len);

    ngx_rbtree_insert(&quota->sh->rbtree, node);

    return qn;
}


/* to forget a key before its period is over would give it a new quota */

static void
ngx_tunnel_quota_expire(ngx_tunnel_quota_t *quota, ngx_uint_t n)
{
    ngx_queue_t              *q, *prev;
    ngx_rbtree_node_t        *node;
    ngx_tunnel_quota_node_t  *qn;

    for (q = ngx_queue_last(&quota->sh->queue);
         n && q != ngx_queue_sentinel(&quota->sh->queue);
         n--)
    {
        prev = ngx_queue_prev(q);
        qn = ngx_queue_data(q, ngx_tunnel_quota_node_t, queue);

        if (ngx_tunnel_quota_is_over(quota, qn)) {

            node = (ngx_rbtree_node_t *)
                       ((u_char *) qn - offsetof(ngx_rbtree_node_t, color));

            ngx_queue_remove(q);
            ngx_rbtree_delete(&quota->sh->rbtree, node);
            ngx_slab_free_locked(quota->shpool, node);
        }

        q = prev;
    }
}


static void
ngx_tunnel_quota_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    ngx_str_t                 key;
    ngx_rbtree_node_t       **p;
    ngx_tunnel_quota_node_t  *qn;

    qn = (ngx_tunnel_quota_node_t *) &node->color;

    key.len = qn->len;
    key.data = qn->data;

    for ( ;; ) {

        if (node->key != temp->key) {
            p = (node->key < temp->key) ? &temp->left : &temp->right;

        } else {
            qn = (ngx_tunnel_quota_node_t *) &temp->color;

            p = (ngx_tunnel_quota_compare(&key, qn) < 0) ? &temp->left
                                                         : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


static ngx_int_t
ngx_tunnel_quota_compare(ngx_str_t *key, ngx_tunnel_quota_node_t *qn)
{
    return ngx_memn2cmp(key->data, qn->data, key->len, (size_t) qn->len);
}
