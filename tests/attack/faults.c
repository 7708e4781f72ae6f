/* Preloaded into a Python that runs gf: numbers the calls that change files below one folder and, at a chosen one, ends
 * the process, writes half and ends it, sends it a signal, or lets the call fail. Off until `faults_begin`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COUNT, KILL, TEAR, FAIL, SIGNAL };
enum { GO_ON, FAILED, TORN };
static char root[PATH_MAX];
static int how, fault_errno, from_there_on, record;
static long chosen, calls;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* to: a descriptor that takes the name and the path of each call, a line each. number: an errno, or of a signal. */
void faults_begin(const char *folder, int to, int what, long call, int number, int onwards) {
  record = to, how = what, chosen = call, fault_errno = number, from_there_on = onwards, calls = 0;
  snprintf(root, sizeof root, "%s/", folder);
}
void faults_end(void) { root[0] = 0; }

/* The path of the call that is asked about. */
static __thread char called[2 * PATH_MAX];

static int starts_with_root(const char *path) {
  if (!root[0] || strncmp(path, root, strlen(root))) return 0;
  snprintf(called, sizeof called, "%s", path + strlen(root));
  return 1;
}

static int path_is_inside(int folder, const char *path) {
  char base[PATH_MAX], whole[2 * PATH_MAX];
  if (!root[0] || !path) return 0;
  if (path[0] == '/') return starts_with_root(path);
  if (folder == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) return 0;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length < 0) return 0;
    base[length] = 0;
  }
  snprintf(whole, sizeof whole, "%s/%s", base, path);
  return starts_with_root(whole);
}

static int file_is_inside(int fd) { return root[0] && path_is_inside(fd, ""); }

static void end_here(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* gives_room: a full disk lets files be removed. */
static int next_call(const char *name, int is_write, int gives_room) {
  long number = __sync_add_and_fetch(&calls, 1);
  char line[sizeof called + 32];
  int length = snprintf(line, sizeof line, "%s %s\n", name, called);
  (void)!NEXT(write)(record, line, length);
  if (how == COUNT || (from_there_on ? number < chosen : number != chosen)) return GO_ON;
  if (how == KILL || (how == TEAR && !is_write)) end_here();
  if (how == TEAR) return TORN;
  if (how == SIGNAL) return kill(getpid(), fault_errno), GO_ON;
  if (gives_room && (fault_errno == ENOSPC || fault_errno == EDQUOT)) return GO_ON;
  errno = fault_errno;
  return FAILED;
}

static int open_in(int folder, const char *path, int flags, mode_t mode) {
  struct stat found;
  if ((flags & (O_CREAT | O_TRUNC)) && path_is_inside(folder, path)) {
    int is_there = !fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW);
    if (next_call("open", 0, is_there) == FAILED) return -1;
  }
  return NEXT(openat)(folder, path, flags, mode);
}
#define OPEN(name, folder, ...) \
  int name(__VA_ARGS__, int flags, ...) { \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    return open_in(folder, path, flags, mode); \
  }
OPEN(open, AT_FDCWD, const char *path)
OPEN(open64, AT_FDCWD, const char *path)
OPEN(openat64, folder, int folder, const char *path)

#define WRITE(name, parameters, arguments, half) \
  ssize_t name parameters { \
    if (file_is_inside(fd)) switch (next_call(#name, 1, 0)) { \
      case FAILED: return -1; \
      case TORN: (void)!NEXT(name) half; end_here(); \
    } \
    return NEXT(name) arguments; \
  }
WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t place), (fd, data, size, place), (fd, data, size / 2, place))

#define CALL(name, is_inside, gives_room, parameters, arguments) \
  int name parameters { \
    if ((is_inside) && next_call(#name, 0, gives_room) == FAILED) return -1; \
    return NEXT(name) arguments; \
  }
CALL(fsync, file_is_inside(fd), 0, (int fd), (fd))
CALL(fdatasync, file_is_inside(fd), 0, (int fd), (fd))
CALL(ftruncate64, file_is_inside(fd), 1, (int fd, off64_t size), (fd, size))
CALL(fchmod, file_is_inside(fd), 1, (int fd, mode_t mode), (fd, mode))
CALL(chmod, path_is_inside(AT_FDCWD, path), 1, (const char *path, mode_t mode), (path, mode))
CALL(mkdir, path_is_inside(AT_FDCWD, path), 0, (const char *path, mode_t mode), (path, mode))
CALL(rmdir, path_is_inside(AT_FDCWD, path), 1, (const char *path), (path))
CALL(unlink, path_is_inside(AT_FDCWD, path), 1, (const char *path), (path))
CALL(unlinkat, path_is_inside(folder, path), 1, (int folder, const char *path, int flags), (folder, path, flags))
CALL(rename, path_is_inside(AT_FDCWD, to), 0, (const char *from, const char *to), (from, to))
