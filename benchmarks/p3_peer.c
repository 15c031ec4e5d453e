/* Both ends of P3 and P4 in C: a server that does what the agent's listener does, and the clients.

     p3_peer serve PATH                                  an epoll server: lines in, one + for each end, until killed
     p3_peer ask PATH CLIENTS REQUESTS HOLD_US END [BEGIN]
                     so many clients at once, each: connect, BEGIN, wait, END, read the answer, close;
                     a negative number of clients does not read an answer

   END and BEGIN are files with one line; the id in them is replaced by another for each request. `ask` prints
   requests, answers and seconds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ID "00000000-0000-4000-8000-000000000000"
#define END "{\"t\":\"end\""
#define CONNECTIONS 65536

static struct sockaddr_un address(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, path, sizeof at.sun_path - 1);
    return at;
}

static void check(int failed, const char *what)
{
    if (failed) {
        perror(what);
        exit(1);
    }
}

/* --- the server --- */

struct line {
    char *bytes;
    size_t length, room;
};

static struct line lines[CONNECTIONS];

static void hear(int fd, const char *data, size_t n)
{
    struct line *line = &lines[fd];
    while (n) {
        const char *newline = memchr(data, '\n', n);
        size_t part = newline ? (size_t)(newline - data) : n;
        if (line->length + part > line->room) {
            line->room = 2 * (line->length + part);
            line->bytes = realloc(line->bytes, line->room);
        }
        memcpy(line->bytes + line->length, data, part);
        line->length += part;
        data += part, n -= part;
        if (newline) {
            if (line->length >= sizeof END - 1 && !memcmp(line->bytes, END, sizeof END - 1))
                send(fd, "+", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
            line->length = 0;
            data++, n--;
        }
    }
}

static void serve(const char *path)
{
    static char buffer[65536];
    struct sockaddr_un at = address(path);
    struct epoll_event events[256], event = {.events = EPOLLIN};
    int poll = epoll_create1(EPOLL_CLOEXEC);
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unlink(path);
    check(bind(listening, (struct sockaddr *)&at, sizeof at), "bind");
    check(listen(listening, 1024), "listen");
    event.data.fd = listening;
    check(epoll_ctl(poll, EPOLL_CTL_ADD, listening, &event), "epoll_ctl");
    for (;;) {
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listening) {
                while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    struct ucred peer;
                    socklen_t length = sizeof peer;
                    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
                    event.data.fd = fd;
                    lines[fd].length = 0;
                    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
                }
                continue;
            }
            ssize_t got = recv(fd, buffer, sizeof buffer, 0);
            if (got > 0)
                hear(fd, buffer, (size_t)got);
            else if (got == 0 || errno != EAGAIN)
                close(fd);
        }
    }
}

/* --- the clients --- */

struct text {
    char *bytes;
    size_t length;
    long id;
};

static const char *path;
static struct text begin, end;
static long hold_us, requests;
static int mute;
static atomic_long taken, answered;

static struct text read_file(const char *name)
{
    struct text text = {0};
    FILE *file = fopen(name, "r");
    check(!file, name);
    text.bytes = malloc(16 << 20);
    text.length = fread(text.bytes, 1, 16 << 20, file);
    fclose(file);
    char *id = memmem(text.bytes, text.length, ID, sizeof ID - 1);
    check(!id, "no id in the line");
    text.id = id - text.bytes;
    return text;
}

static int say(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);
        if (sent < 0)
            return -1;
        data += sent, n -= (size_t)sent;
    }
    return 0;
}

static void *ask(void *unused)
{
    struct sockaddr_un at = address(path);
    struct timespec now;
    char *first = malloc(begin.length + 1), *last = malloc(end.length + 1);
    memcpy(first, begin.bytes, begin.length);
    memcpy(last, end.bytes, end.length);
    clock_gettime(CLOCK_REALTIME, &now);
    for (long n; (n = atomic_fetch_add(&taken, 1)) < requests;) {
        char id[sizeof ID], answer;
        snprintf(id, sizeof id, "%08lx-%04lx-4000-8000-%012lx", now.tv_sec & 0xffffffff, now.tv_nsec & 0xffff, n);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0) {
            if (begin.length) {
                memcpy(first + begin.id, id, sizeof ID - 1);
                say(fd, first, begin.length);
            }
            if (hold_us)
                usleep((useconds_t)hold_us);
            memcpy(last + end.id, id, sizeof ID - 1);
            if (say(fd, last, end.length) == 0 && !mute && recv(fd, &answer, 1, 0) == 1 && answer == '+')
                atomic_fetch_add(&answered, 1);
        }
        close(fd);
    }
    return unused;
}

int main(int argc, char **argv)
{
    struct rlimit files = {CONNECTIONS, CONNECTIONS};
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc == 3 && !strcmp(argv[1], "serve"))
        serve(argv[2]);
    if (argc < 7 || strcmp(argv[1], "ask")) {
        fprintf(stderr, "serve PATH | ask PATH CLIENTS REQUESTS HOLD_US END [BEGIN]\n");
        return 2;
    }
    path = argv[2];
    int clients = atoi(argv[3]);
    mute = clients < 0;
    clients = abs(clients);
    requests = atol(argv[4]);
    hold_us = atol(argv[5]);
    end = read_file(argv[6]);
    if (argc > 7)
        begin = read_file(argv[7]);
    pthread_t *threads = calloc((size_t)clients, sizeof *threads);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < clients; i++)
        check(pthread_create(&threads[i], NULL, ask, NULL), "pthread_create");
    for (int i = 0; i < clients; i++)
        pthread_join(threads[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%ld %ld %.3f\n", requests, answered,
           (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
    return 0;
}
