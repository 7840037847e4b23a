/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_LIST_H
#define ORION_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* Intrusive circular doubly linked list. An entry is in one list or in none (linked to itself). */
struct list {
    struct list *next, *prev;
};

#define LIST_INIT(name)  \
    {                    \
        &(name), &(name) \
    }
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_add_tail(struct list *head, struct list *e)
{
    e->prev = head->prev;
    e->next = head;
    head->prev->next = e;
    head->prev = e;
}

static inline void list_add_head(struct list *head, struct list *e)
{
    list_add_tail(head->next, e);
}

static inline void list_del(struct list *e)
{
    e->prev->next = e->next;
    e->next->prev = e->prev;
    e->next = e->prev = e;
}

static inline struct list *list_pop(struct list *head) /* NULL when empty */
{
    if (list_empty(head))
        return NULL;
    struct list *e = head->next;
    list_del(e);
    return e;
}

/* Moves all entries of *from to the tail of *to. */
static inline void list_splice_tail(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first(head, type, member) \
    (list_empty(head) ? NULL : container_of((head)->next, type, member))
#define list_for_each(pos, head, member)                                                     \
    for (pos = container_of((head)->next, __typeof__(*pos), member); &pos->member != (head); \
         pos = container_of(pos->member.next, __typeof__(*pos), member))
/* Safe against removal of pos (only). */
#define list_for_each_safe(pos, tmp, head, member)                      \
    for (pos = container_of((head)->next, __typeof__(*pos), member),    \
        tmp = container_of(pos->member.next, __typeof__(*pos), member); \
         &pos->member != (head);                                        \
         pos = tmp, tmp = container_of(tmp->member.next, __typeof__(*tmp), member))

#endif
