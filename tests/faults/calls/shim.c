/* Counts the calls by which a process changes files below one folder, and makes one of them fail or the last one.
 *
 * Loaded with LD_PRELOAD. The control block is a file that the harness maps, too (tests/faults/calls/shim.py). Calls
 * are numbered from 1. The call with the number `at`, and with `sticky` every later one, returns `error`; where that
 * is 0, the process is killed instead of making the call. `torn` lets a write store half of its bytes first.
 * `struck` has the kind and the path of the last call that was hit.
 * `ahead` are seconds by which the process sees the time of day too late.
 * With `log`, each call that succeeded is appended to a file, with its bytes: what a model of a power loss needs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    _Atomic int64_t count;
    _Atomic int64_t hits;
    _Atomic int64_t at;
    int64_t error;
    int64_t sticky;
    int64_t torn;
    _Atomic int64_t ahead;
    char folder[PATH_MAX];
    char log[PATH_MAX];
    char struck[PATH_MAX];
};

static struct control *control;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("FAULT_CONTROL");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED)
        control = mapped;
}

/* The time of day, for the interpreter and for SQLite; whatever measures how long something took is left alone. */

int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = (int)syscall(SYS_clock_gettime, clock, at);
    if (!result && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += control->ahead;
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

static int path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    if (length < 0)
        return 0;
    out[length] = 0;
    return 1;
}

static int is_below(const char *path) {
    size_t length = strlen(control->folder);
    return length && !strncmp(path, control->folder, length) && (path[length] == '/' || !path[length]);
}

static int in_file(int fd, char *out) {
    int saved = errno, found = control && control->folder[0] && path_of(fd, out) && is_below(out);
    errno = saved;
    return found;
}

static int in_path(int at, const char *path, char *out) {
    if (!control || !control->folder[0] || !path)
        return 0;
    int saved = errno;
    char base[PATH_MAX] = "";
    if (path[0] != '/' && !(at == AT_FDCWD ? getcwd(base, sizeof base) != NULL : path_of(at, base)))
        base[0] = 0;
    snprintf(out, PATH_MAX, "%.*s%s%s", PATH_MAX / 2, base, base[0] ? "/" : "", path);
    errno = saved;
    return is_below(out);
}

/* Number a call; returns whether it is to fail. */
static int strike(const char *what, const char *path) {
    int64_t number = atomic_fetch_add(&control->count, 1) + 1, at = control->at;
    if (!at || number < at || (number > at && !control->sticky))
        return 0;
    atomic_fetch_add(&control->hits, 1);
    snprintf(control->struck, PATH_MAX, "%s\t%.*s", what, PATH_MAX - 64, path);
    if (!control->error) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    errno = (int)control->error;
    return 1;
}

static int is_next(void) { return control->torn && control->at && control->count + 1 == control->at; }

static void record(const char *what, const char *path, const char *other, long long at, const void *data, size_t size) {
    int saved = errno, fd = (int)syscall(SYS_openat, AT_FDCWD, control->log, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    char head[3 * PATH_MAX];
    int length = snprintf(head, sizeof head, "%s\t%s\t%s\t%lld\t%zu\n", what, path, other, at, size);
    struct iovec parts[2] = {{head, (size_t)length}, {(void *)data, size}};
    syscall(SYS_writev, fd, parts, size ? 2 : 1);
    syscall(SYS_close, fd);
    errno = saved;
}

/* Number the call, make it, and record it if it succeeded: with a log, one after the other. */
#define MAKE(type, call, what, path, other, at, data, size)                                                            \
    do {                                                                                                               \
        if (strike(what, path))                                                                                        \
            return -1;                                                                                                 \
        if (!control->log[0])                                                                                          \
            return (call);                                                                                             \
        pthread_mutex_lock(&order);                                                                                    \
        type result = (call);                                                                                          \
        if (result >= 0)                                                                                               \
            record(what, path, other, at, data, size);                                                                 \
        pthread_mutex_unlock(&order);                                                                                  \
        return result;                                                                                                 \
    } while (0)

#define ON_PATH(name, parameters, arguments, directory, path, what, size)                                              \
    int name parameters {                                                                                              \
        char full[PATH_MAX];                                                                                           \
        if (!in_path(directory, path, full))                                                                           \
            return REAL(name) arguments;                                                                               \
        MAKE(int, REAL(name) arguments, what, full, "", size, NULL, 0);                                                \
    }

#define ON_TWO(name, parameters, arguments, first, source, second, target, what)                                       \
    int name parameters {                                                                                              \
        char from[PATH_MAX], to[PATH_MAX];                                                                             \
        int starts = in_path(first, source, from), ends = in_path(second, target, to);                                 \
        if (!starts && !ends)                                                                                          \
            return REAL(name) arguments;                                                                               \
        MAKE(int, REAL(name) arguments, what, from, to, 0, NULL, 0);                                                   \
    }

#define ON_FILE(name, parameters, arguments, what, size)                                                               \
    int name parameters {                                                                                              \
        char full[PATH_MAX];                                                                                           \
        if (!in_file(fd, full))                                                                                        \
            return REAL(name) arguments;                                                                               \
        MAKE(int, REAL(name) arguments, what, full, "", size, NULL, 0);                                                \
    }

ON_PATH(unlink, (const char *path), (path), AT_FDCWD, path, "unlink", 0)
ON_PATH(rmdir, (const char *path), (path), AT_FDCWD, path, "unlink", 0)
ON_PATH(unlinkat, (int at, const char *path, int flags), (at, path, flags), at, path, "unlink", 0)
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path, "mkdir", 0)
ON_PATH(mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), at, path, "mkdir", 0)
ON_PATH(truncate, (const char *path, off_t size), (path, size), AT_FDCWD, path, "truncate", size)
ON_PATH(truncate64, (const char *path, off64_t size), (path, size), AT_FDCWD, path, "truncate", size)
ON_PATH(chmod, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path, "mode", 0)
ON_PATH(utimensat, (int at, const char *path, const struct timespec times[2], int flags), (at, path, times, flags), at,
        path, "times", 0)
ON_TWO(rename, (const char *source, const char *target), (source, target), AT_FDCWD, source, AT_FDCWD, target, "rename")
ON_TWO(renameat, (int old, const char *source, int new, const char *target), (old, source, new, target), old, source,
       new, target, "rename")
ON_TWO(link, (const char *source, const char *target), (source, target), AT_FDCWD, source, AT_FDCWD, target, "link")
ON_TWO(linkat, (int old, const char *source, int new, const char *target, int flags),
       (old, source, new, target, flags), old, source, new, target, "link")
ON_FILE(fsync, (int fd), (fd), "sync", 0)
ON_FILE(fdatasync, (int fd), (fd), "sync", 0)
ON_FILE(futimens, (int fd, const struct timespec times[2]), (fd, times), "times", 0)
ON_FILE(fchmod, (int fd, mode_t mode), (fd, mode), "mode", 0)
ON_FILE(ftruncate, (int fd, off_t size), (fd, size), "truncate", size)
ON_FILE(ftruncate64, (int fd, off64_t size), (fd, size), "truncate", size)
ON_FILE(fallocate, (int fd, int mode, off_t offset, off_t length), (fd, mode, offset, length), "allocate", 0)
ON_FILE(fallocate64, (int fd, int mode, off64_t offset, off64_t length), (fd, mode, offset, length), "allocate", 0)

/* These return the error instead of setting errno. */
#define ALLOCATE(name, offset_type)                                                                                    \
    int name(int fd, offset_type offset, offset_type length) {                                                         \
        char full[PATH_MAX];                                                                                           \
        if (in_file(fd, full) && strike("allocate", full))                                                             \
            return errno;                                                                                              \
        return REAL(name)(fd, offset, length);                                                                         \
    }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

static long long place(int fd, long long given) {
    struct stat found;
    if (given >= 0)
        return given;
    if ((fcntl(fd, F_GETFL) & O_APPEND) && !fstat(fd, &found))
        return (long long)found.st_size;
    return (long long)lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t size) {
    char full[PATH_MAX];
    if (!in_file(fd, full))
        return REAL(write)(fd, data, size);
    if (is_next() && size > 1) {
        ssize_t half = REAL(write)(fd, data, size / 2);
        return strike("write", full) ? half : -1;
    }
    MAKE(ssize_t, REAL(write)(fd, data, size), "write", full, "", place(fd, -1) - (long long)result, data,
         (size_t)result);
}

#define PWRITE(name, offset_type)                                                                                      \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) {                                          \
        char full[PATH_MAX];                                                                                           \
        if (!in_file(fd, full))                                                                                        \
            return REAL(name)(fd, data, size, offset);                                                                 \
        if (is_next() && size > 1) {                                                                                   \
            ssize_t half = REAL(name)(fd, data, size / 2, offset);                                                     \
            return strike("write", full) ? half : -1;                                                                  \
        }                                                                                                              \
        MAKE(ssize_t, REAL(name)(fd, data, size, offset), "write", full, "", (long long)offset, data, (size_t)result); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define OPEN(name, parameters, arguments, directory)                                                                   \
    int name parameters {                                                                                              \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                           \
            va_list more;                                                                                              \
            va_start(more, flags);                                                                                     \
            mode = va_arg(more, mode_t);                                                                               \
            va_end(more);                                                                                              \
        }                                                                                                              \
        char full[PATH_MAX];                                                                                           \
        if (((flags & O_ACCMODE) == O_RDONLY && !(flags & O_CREAT)) || !in_path(directory, path, full))                \
            return REAL(name) arguments;                                                                               \
        struct stat found;                                                                                             \
        int saved = errno, is_new = (flags & O_CREAT) && stat(full, &found) < 0;                                       \
        errno = saved;                                                                                                 \
        MAKE(int, REAL(name) arguments, is_new ? "create" : (flags & O_TRUNC) ? "truncate" : "open", full, "", 0,      \
             NULL, 0);                                                                                                 \
    }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode), at)
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode), at)
