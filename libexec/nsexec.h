/* What the files of nsexec share.  See docs/ARCHITECTURE.md for the protocol. */
#ifndef PYOCI_NSEXEC_H
#define PYOCI_NSEXEC_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* before the first system header: every file includes this one first */
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PLAN_MAGIC "PYOCI\0\1\0" /* 6 bytes of name, u16 version, little endian */
#define PLAN_MAX (16u << 20)
#define OP_NUMS 8
#define MAX_FDS 64   /* descriptors that come with a plan */
#define MAX_TREES 512 /* sources opened ahead of the user namespace */
#define MAX_CGROUPS 32
#define TEXT_MAX 1024

/* The operations.  tests/unit/test_ops.py holds this list and pyoci/plan/ops.py together. */
enum op_code {
	OP_JOIN = 1,
	OP_UNSHARE = 2,
	OP_SYNC = 3,
	OP_TIMENS = 4,
	OP_FORK = 5,
	OP_SETSID = 6,
	OP_KEYRING = 7,
	OP_ENTER = 8,
	OP_SEAL = 9,
	OP_PROPAGATION = 10,
	OP_TREE = 11,
	OP_ROOTFS = 12,
	OP_MOUNT = 13,
	OP_BIND = 14,
	OP_REMOUNT = 15,
	OP_MASK = 16,
	OP_READONLY = 17,
	OP_MKDIR = 18,
	OP_MKNOD = 19,
	OP_SYMLINK = 20,
	OP_CONSOLE = 21,
	OP_PIVOT = 22,
	OP_ROOT_HERE = 23,
	OP_SUBDIR = 24,
	OP_OWN = 25,
	OP_CTTY = 26,
	OP_UMOUNT = 27,
	OP_GATHER = 28,
	OP_TAKE = 29,
	OP_HOSTNAME = 30,
	OP_DOMAINNAME = 31,
	OP_SYSCTL = 32,
	OP_HOOK = 33,
	OP_STREAMS = 34,
	OP_OOM_SCORE_ADJ = 40,
	OP_RLIMIT = 41,
	OP_UMASK = 42,
	OP_CWD = 43,
	OP_BOUNDING = 44,
	OP_SETIDS = 45,
	OP_CAPS = 46,
	OP_NO_NEW_PRIVS = 47,
	OP_SECCOMP = 48,
	OP_HOME = 49,
	OP_LOOKUP = 50,
	OP_READY = 51,
	OP_FIFO = 52,
	OP_EXEC = 53,
	OP_SCHEDULER = 54,
	OP_IO_PRIORITY = 55,
	OP_AFFINITY = 56,
	OP_PERSONALITY = 57,
	OP_MEMPOLICY = 58,
	OP_LABEL = 59,
	/* what the launcher walks without an interpreter: verbs.c */
	OP_VERB = 60,
	OP_PROCESS = 61,
	OP_FROZEN = 62,
	OP_REPORT = 63,
	OP_RELEASE = 64,
	OP_SIGNAL = 65,
	OP_END = 66,
	OP_RMDIR = 67,
	OP_UNLINK = 68,
	OP_FORGET = 69,
};

/* Kinds of messages; the numbers are the protocol. */
enum msg_kind {
	MSG_PLAN = 1,
	MSG_GO = 2,
	MSG_ERROR = 16,
	MSG_SYNC = 17,
	MSG_FORKED = 18,
	MSG_CONSOLE = 19,
	MSG_READY = 20,
	MSG_WARN = 21,
	MSG_HOOK_FAILED = 22,
	MSG_LISTENER = 23,
};

struct msg {
	uint32_t kind;
	uint32_t op;
	int64_t value;
};

struct str {
	const char *data; /* NUL terminated, also when it is a blob */
	uint32_t len;
};

struct op {
	uint16_t code;
	uint16_t nstrs;
	int64_t num[OP_NUMS];
	const struct str *strs;
};

struct plan {
	struct op *ops;
	struct str *strs;
	uint32_t nops;
};

/* A mount of the plan: the words of its destination, and what the kernel calls it. */
struct placed {
	const char *dest;
	uint64_t id;
};

/* Everything one run knows.  All descriptors are close-on-exec. */
struct ctx {
	struct plan plan;
	uint32_t at;         /* index of the operation in hand */
	int sock;            /* to the host side; -1 after READY */
	int fifo;            /* errors go here once the socket is closed; -1 before */
	int fds[MAX_FDS];    /* what the host sent along with the plan */
	int nfds;
	int proc;            /* the host's procfs, verified */
	int null;            /* the host's /dev/null, verified */
	int root;            /* root of the container: every path is resolved under it */
	int trees[MAX_TREES]; /* and mounts that seal is for */
	bool gathered[MAX_TREES]; /* which of them lie in the mount namespace that gather made */
	struct placed *placed; /* in their order */
	int nplaced;
	int cgroups[MAX_CGROUPS]; /* v1: `tasks` files that the child of fork writes itself into */
	int ncgroups;
	int timens;          /* timens_offsets of ours, opened as root of the host, or -1 */
	int cgroup;          /* v2: the directory it is born in, or -1 */
	bool unprivileged;   /* the runtime is an ordinary user */
	bool cwd_done;
	bool groups_denied;  /* the user namespace denies setgroups(2); known when proc goes */
	mode_t mkdir_mode;   /* of directories that are made; 0: 0755 */
	char *exe;           /* what lookup found */
	char *home;          /* "HOME=...", or NULL */
	char **argv, **envp; /* of the program, once all is ready for it */
	char text[TEXT_MAX]; /* detail of the error in hand */
};

/* plan.c */
const char *plan_parse(const unsigned char *data, size_t size, struct plan *plan);
void plan_free(struct plan *plan);
bool plan_has_after(const struct ctx *ctx, uint16_t code);

/* paths.c */
enum want { WANT_ANY, WANT_DIR, WANT_FILE };

/* Symlinks in a path: all are followed, all but the last component, or one is an error.  The last
 * component comes out as the link that it is, with either of the latter.  FOLLOW_NONE is for what the
 * runtime makes itself: it must also lie on the mount that the config put there. */
enum follow { FOLLOW_ALL, FOLLOW_WAY, FOLLOW_NONE };
int path_open(const struct ctx *ctx, const char *path, bool nofollow);
int path_create(const struct ctx *ctx, const char *path, enum want want, enum follow follow);
int path_parent(const struct ctx *ctx, const char *path, enum follow follow, char name[256]);
int path_not_ours(struct ctx *ctx, int error);
int path_read_regular(const struct ctx *ctx, const char *path, size_t max, char **data);
int proc_open(const struct ctx *ctx, const char *path, int flags);
bool is_device(int fd, unsigned major, unsigned minor);
bool is_fs(int fd, long magic);

/* filesystems.c */
int fs_mount(struct ctx *ctx, const char *type, const char *source, unsigned long flags, const char *data);
int fs_reconfigure(struct ctx *ctx, int fd, unsigned long flags, bool writable, const char *data);

#define BIND_OPTIONAL 32 /* bind.flags and tree.flags: a source that is not there is no error */

/* sources.c */
int op_tree(struct ctx *ctx, const struct op *op);
int op_gather(struct ctx *ctx, const struct op *op);
int op_take(struct ctx *ctx, const struct op *op);

/* mounts.c */
int op_mount(struct ctx *ctx, const struct op *op);
int op_bind(struct ctx *ctx, const struct op *op);
int op_remount(struct ctx *ctx, const struct op *op);
int op_mask(struct ctx *ctx, const struct op *op);
int op_umount(struct ctx *ctx, const struct op *op);
int op_readonly(struct ctx *ctx, const struct op *op);
int op_beside(struct ctx *ctx, const struct op *op);
int op_seal(struct ctx *ctx, const struct op *op);
int clone_at(int dir, const char *path, int flags);
int attach(int tree, int dest);
int clone_source(const char *path, int64_t flags);
int set_attr(int tree, uint64_t set, uint64_t clr, uint64_t propagation, bool recursive);
int set_attrs(int tree, const struct op *op, int first);
int set_idmap(struct ctx *ctx, int mnt, int64_t number, bool recursive);
int attach_clone(int source, int dest, uint64_t attributes);

/* placed.c */
int placed(struct ctx *ctx, const char *dest, int mnt);
int mount_number(int fd, int64_t number);
int placed_open(struct ctx *ctx, const char *dest);
int not_root(struct ctx *ctx, int fd);
int on_placed(const struct ctx *ctx, const char *path, int fd);

/* root.c */
int op_propagation(struct ctx *ctx, const struct op *op);
int op_rootfs(struct ctx *ctx, const struct op *op);
int op_root_here(struct ctx *ctx, const struct op *op);
int op_pivot(struct ctx *ctx, const struct op *op);

/* files.c */
int op_mkdir(struct ctx *ctx, const struct op *op);
int op_mknod(struct ctx *ctx, const struct op *op);
int op_symlink(struct ctx *ctx, const struct op *op);
int op_console(struct ctx *ctx, const struct op *op);
int op_streams(struct ctx *ctx, const struct op *op);
int op_ctty(struct ctx *ctx, const struct op *op);
int op_sysctl(struct ctx *ctx, const struct op *op);
int copy_tree(int from, int to);

/* process.c */
int op_setsid(struct ctx *ctx, const struct op *op);
int op_keyring(struct ctx *ctx, const struct op *op);
int op_oom_score_adj(struct ctx *ctx, const struct op *op);
int op_rlimit(struct ctx *ctx, const struct op *op);
int op_umask(struct ctx *ctx, const struct op *op);
int op_cwd(struct ctx *ctx, const struct op *op);
int op_bounding(struct ctx *ctx, const struct op *op);
bool groups_denied(const struct ctx *ctx);
int op_setids(struct ctx *ctx, const struct op *op);
int op_caps(struct ctx *ctx, const struct op *op);
int op_no_new_privs(struct ctx *ctx, const struct op *op);
int op_seccomp(struct ctx *ctx, const struct op *op);
int op_home(struct ctx *ctx, const struct op *op);
int op_lookup(struct ctx *ctx, const struct op *op);
int op_exec(struct ctx *ctx, const struct op *op);
const char *go_strerror(int error);
int write_all(int fd, const char *data, size_t size);
int drop_groups(const struct ctx *ctx);

/* attributes.c */
int op_scheduler(struct ctx *ctx, const struct op *op);
int op_io_priority(struct ctx *ctx, const struct op *op);
int op_affinity(struct ctx *ctx, const struct op *op);
int op_mempolicy(struct ctx *ctx, const struct op *op);
int op_personality(struct ctx *ctx, const struct op *op);
int op_label(struct ctx *ctx, const struct op *op);

/* degraded.c */
int close_span(const struct ctx *ctx, unsigned first, unsigned last);
void name_refused(struct ctx *ctx, int error);

/* hook.c */
int op_hook(struct ctx *ctx, const struct op *op);

/* verbs.c */
int verbs_try(int argc, char **argv);

/* channel.c */
void send_msg(const struct ctx *ctx, uint32_t kind, int64_t value, const char *text, int fd);
void wait_go(const struct ctx *ctx);
int receive_plan(struct ctx *ctx);
int detail(struct ctx *ctx, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* namespaces.c */
int op_join(struct ctx *ctx, const struct op *op);
int op_unshare(struct ctx *ctx, const struct op *op);
int op_sync(struct ctx *ctx, const struct op *op);
int op_timens(struct ctx *ctx, const struct op *op);
int op_enter(struct ctx *ctx, const struct op *op);
int op_fork(struct ctx *ctx, const struct op *op);
int op_hostname(struct ctx *ctx, const struct op *op);
int op_domainname(struct ctx *ctx, const struct op *op);
int namespaces_join(int argc, char **argv);

/* nsexec.c */
int nsexec_main(int argc, char **argv);
int guard(void);
int close_others(const struct ctx *ctx, unsigned first);

#endif
