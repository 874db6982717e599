// tests/http_server.c -- an HTTP server for tests: one file, ranges, and the ways in which servers fail.
//
//     http_server FILE
//
// Listens on a free port of 127.0.0.1 and prints it; then a line a request, "GET /path FIRST" (FIRST: the
// range's first byte, - without one), so that a test can see what was asked for. Serves one connection at a
// time, closes each, and ends by itself after a minute. What it serves depends on the path:
//     /file...      the file; ranges answered by 206, or 416 behind its end
//     /cut...       likewise, but each connection breaks after CUT bytes of body
//     /first...     the first CUT bytes, then a broken connection; ranges get nothing but a broken connection
//     /whole...     the whole file, whatever range was asked for
//     /moved...     a redirection to /file
// and anything else is 404.
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CUT = 100000, LIFETIME = 60 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void *read_file(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) fail(path);
    char *data = malloc((size_t)st.st_size + 1);
    if (!data) fail("malloc");
    *size = 0;
    for (ssize_t got; (got = read(fd, data + *size, (size_t)st.st_size - *size)) > 0;) *size += (size_t)got;
    close(fd);
    return data;
}

// Writes all bytes, or gives up: a client may hang up when it likes.
static void send_all(int fd, const void *data, size_t bytes)
{
    for (const char *p = data; bytes > 0;) {
        ssize_t sent = write(fd, p, bytes);
        if (sent <= 0) return;
        p += sent;
        bytes -= (size_t)sent;
    }
}

// Reads up to the blank line that ends the request's head. False if the client hung up or sent too much.
static bool read_head(int fd, char *head, size_t capacity)
{
    for (size_t length = 0; length + 1 < capacity;) {
        ssize_t got = read(fd, head + length, capacity - 1 - length);
        if (got <= 0) return false;
        length += (size_t)got;
        head[length] = '\0';
        if (strstr(head, "\r\n\r\n")) return true;
    }
    return false;
}

// The first byte of "Range: bytes=N-", or -1 without such a line.
static long long range_of(const char *head)
{
    for (const char *line = head; (line = strstr(line, "\r\n")); line += 2) {
        if (!strncasecmp(line + 2, "Range: bytes=", 13)) return atoll(line + 15);
    }
    return -1;
}

static bool starts_with(const char *text, const char *prefix)
{
    return !strncmp(text, prefix, strlen(prefix));
}

static void answer(int fd, const char *path, long long first, const char *data, size_t size)
{
    bool cut = starts_with(path, "/cut"), once = starts_with(path, "/first"),
         whole = starts_with(path, "/whole");
    if (starts_with(path, "/moved")) {
        dprintf(
            fd,
            "HTTP/1.1 302 Found\r\nLocation: /file.gguf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    if (!cut && !once && !whole && !starts_with(path, "/file")) {
        dprintf(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot here\n");
        return;
    }
    if (once && first > 0) return;
    if (whole) first = -1;
    if (first >= (long long)size) {
        dprintf(fd,
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */%zu\r\nContent-Length: 5\r\n"
                "Connection: close\r\n\r\nnone\n",
                size);
        return;
    }
    size_t from = first < 0 ? 0 : (size_t)first, body = size - from;
    if (first < 0)
        dprintf(fd, "HTTP/1.1 200 OK\r\n");
    else
        dprintf(fd, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %zu-%zu/%zu\r\n", from, size - 1,
                size);
    dprintf(fd, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body);
    send_all(fd, data + from, (cut || once) && body > CUT ? CUT : body);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: http_server FILE\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    alarm(LIFETIME);
    size_t size;
    char *data = read_file(argv[1], &size);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 8))
        fail("listen");
    if (getsockname(server, (struct sockaddr *)&address, &length)) fail("getsockname");
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%d\n", ntohs(address.sin_port));

    for (;;) {
        int client = accept(server, NULL, NULL);
        if (client < 0) fail("accept");
        char head[8192], path[256];
        if (read_head(client, head, sizeof head) && sscanf(head, "GET %255s", path) == 1) {
            long long first = range_of(head);
            if (first < 0)
                printf("GET %s -\n", path);
            else
                printf("GET %s %lld\n", path, first);
            answer(client, path, first, data, size);
        }
        shutdown(client, SHUT_WR);
        close(client);
    }
}
