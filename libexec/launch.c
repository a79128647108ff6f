/*
 * The launcher: what stands on PATH as `pyoci`, and as `mydocker`.  It does one thing, exec
 *
 *     python3 -I -S -X utf8 PACKAGE/__main__.py ARGS...    (PACKAGE/mydocker/__main__.py ARGS...)
 *
 * because the script that pip would make loses -I -S, and without them the interpreter reads the
 * caller's directory, PYTHON* variables and .pth files (and takes twice as long to start).  Engines
 * call us with no PATH, no HOME and any working directory, so nothing here depends on them: what is
 * not compiled in is found beside our own file.  Nor on a locale: names of files are UTF-8 (-X utf8).
 *
 *     PYOCI_PYTHON   the interpreter, absolute   (make install; the build in the checkout)
 *     PYOCI_HOME     the package, absolute       (make install; an editable pip install)
 */
#include "nsexec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch.h"

#ifndef PYOCI_PYTHON
#define PYOCI_PYTHON ""
#endif
#ifndef PYOCI_HOME
#define PYOCI_HOME ""
#endif

/* What an engine shows to its user when the command itself cannot run: as the shell does. */
#define EXIT_NOT_STARTED 127
#define MEMORY_MIN (32 << 20) /* bytes of address space: twice what the interpreter takes */

extern char **environ;

/*
 * What is to be executed.  `main` is the script below the package, `version` the directory name the package
 * was found under ("python3.11").
 */
struct target {
	const char *main;
	char self[PATH_MAX];   /* the directory of this executable */
	char prefix[PATH_MAX]; /* and the one above it */
	char python[PATH_MAX];
	char script[PATH_MAX];
	char version[NAME_MAX + 1];
};

/*
 * Says why there will be no pyoci, in one line on stderr, and gives the exit status back.
 */
__attribute__((format(printf, 1, 2))) static int fail(const char *format, ...)
{
	va_list ap;

	fputs("pyoci: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_NOT_STARTED;
}

/*
 * Joins formatted text into a path buffer; a path that does not fit is no path.
 */
__attribute__((format(printf, 2, 3))) static bool path_set(char *path, const char *format, ...)
{
	va_list ap;
	int size;

	va_start(ap, format);
	size = vsnprintf(path, PATH_MAX, format, ap);
	va_end(ap);
	if (size >= 0 && size < PATH_MAX)
		return true;
	path[0] = '\0';
	return false;
}

/*
 * Standard descriptors that the caller closed would be handed out again to the first files we or
 * the interpreter open, and a message meant for stderr would then be written into one of them.  So
 * each hole is filled with /dev/null before anything else is opened; open() takes the lowest free
 * number, which is the hole.
 */
static int fill_stdio(void)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
			continue;
		if (open("/dev/null", O_RDWR | O_NOCTTY) != fd)
			return fail("cannot open /dev/null: %s", strerror(errno));
	}
	return 0;
}

/*
 * Takes the empty and relative entries out of a library path; gives whether any are left.  To the
 * dynamic loader an empty entry is the working directory, containerd passes such a list
 * ("/opt/containerd/lib:"), and the working directory is the bundle: the interpreter is not
 * static, and would take its libm from there.
 */
static bool only_absolute(char *list)
{
	char *out = list;
	char *next;

	for (char *entry = list; entry; entry = next) {
		next = strpbrk(entry, ":;");
		if (next)
			*next++ = '\0';
		if (entry[0] != '/')
			continue;
		if (out != list)
			*out++ = ':';
		memmove(out, entry, strlen(entry) + 1);
		out += strlen(out);
	}
	*out = '\0';
	return out != list;
}

/*
 * The environment goes to hooks and to the programs they start, so it stays as it is but for what
 * is about us: -I makes the interpreter ignore PYTHON*, but it would still hand them on.
 */
static void clean_environment(void)
{
	static const char libraries[] = "LD_LIBRARY_PATH=";
	char **keep = environ;

	if (!environ)
		return;
	for (char **var = environ; *var; var++) {
		if (!strncmp(*var, "PYTHON", strlen("PYTHON")))
			continue;
		if (!strncmp(*var, libraries, strlen(libraries)) && !only_absolute(*var + strlen(libraries)))
			continue;
		*keep++ = *var;
	}
	*keep = NULL;
}

/*
 * The directory this file lies in, by /proc/self/exe: argv[0] may be a bare name, and is the
 * caller's to choose.  The link is already resolved, so a symlink to us from elsewhere is fine.
 */
static int find_self(struct target *t)
{
	ssize_t size = readlink("/proc/self/exe", t->self, sizeof(t->self) - 1);
	char *slash;

	if (size < 0)
		return fail("cannot find myself through /proc/self/exe: %s (is /proc mounted?)", strerror(errno));
	t->self[size] = '\0';
	slash = strrchr(t->self, '/');
	if (!slash)
		return fail("cannot find myself: /proc/self/exe is %s", t->self);
	*slash = '\0';
	strcpy(t->prefix, t->self);
	slash = strrchr(t->prefix, '/');
	if (slash)
		*slash = '\0';
	return 0;
}

/*
 * Whether `home` holds the package; if so its __main__.py, or mydocker's, becomes the script.
 */
static bool is_package(struct target *t, const char *home)
{
	return path_set(t->script, "%s/%s", home, t->main) && !access(t->script, R_OK);
}

/*
 * Whether we were called by the name of the front end.  Only the name: where we lie decides which package.
 */
static bool is_mydocker(int argc, char **argv)
{
	const char *name = argc > 0 && argv[0] ? strrchr(argv[0], '/') : NULL;

	return argc > 0 && argv[0] && !strcmp(name ? name + 1 : argv[0], "mydocker");
}

/*
 * Looks through one library directory of the prefix we were installed under (bin/pyoci, so
 * lib beside it): python3.11/site-packages as pip lays it out, python3.11/dist-packages as Debian does.
 * The name of the version directory is remembered: the interpreter has to be the same.
 */
static bool find_in_library(struct target *t, const char *library)
{
	static const char *const kinds[] = {"site-packages", "dist-packages"};
	char home[PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	if (!path_set(home, "%s/%s", t->prefix, library) || !(dir = opendir(home)))
		return false;
	while (!found && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "python3", strlen("python3")))
			continue;
		for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds) && !found; i++)
			found = path_set(home, "%s/%s/%s/%s/pyoci", t->prefix, library, entry->d_name, kinds[i]) &&
				is_package(t, home);
		if (found)
			strcpy(t->version, entry->d_name);
	}
	closedir(dir);
	return found;
}

/*
 * Whether we are build/pyoci of a checkout, whose package then lies beside build/.  Only a
 * directory of that name is trusted so far: an installed /usr/local/bin/pyoci must not run what
 * it happens to find at /usr/local/pyoci.
 */
static bool find_in_checkout(struct target *t)
{
	const char *name = strrchr(t->self, '/');
	char home[PATH_MAX];

	return name && !strcmp(name, "/build") && path_set(home, "%s/pyoci", t->prefix) && is_package(t, home);
}

/*
 * The package: the one compiled in, or none; without one, the checkout's or the prefix's.
 */
static int find_package(struct target *t)
{
	if (PYOCI_HOME[0]) {
		if (is_package(t, PYOCI_HOME))
			return 0;
		return fail("cannot read %s/%s: %s", PYOCI_HOME, t->main, strerror(errno));
	}
	if (find_in_checkout(t) || find_in_library(t, "lib") || find_in_library(t, "lib64"))
		return 0;
	return fail("cannot find the pyoci package in %s/lib/python3*/site-packages (or dist-packages)", t->prefix);
}

/*
 * The interpreter: the one compiled in; else the one of the virtual environment or prefix we lie
 * in, by its full version first, since a prefix may hold several; else the system's, which is
 * where `pip install --user` and Debian's /usr/local end up.
 */
static int find_python(struct target *t)
{
	const char *version = t->version[0] ? t->version : "python3";

	if (PYOCI_PYTHON[0])
		return path_set(t->python, "%s", PYOCI_PYTHON) ? 0 : fail("the interpreter's path is too long");
	if (path_set(t->python, "%s/%s", t->self, version) && !access(t->python, X_OK))
		return 0;
	if (path_set(t->python, "%s/python3", t->self) && !access(t->python, X_OK))
		return 0;
	if (path_set(t->python, "/usr/bin/%s", version) && !access(t->python, X_OK))
		return 0;
	return fail("cannot find the interpreter: neither %s/%s nor /usr/bin/%s can be executed", t->self, version, version);
}

/*
 * The interpreter maps the tables of the caller's locale, 150 KiB for nothing: everything of ours is UTF-8.  So it
 * starts in the C locale, and __main__.py puts back what stands here as PYOCI_LC_ALL; hooks get it as it was.
 */
static int plain_locale(void)
{
	const char *all = getenv("LC_ALL");

	if (setenv("PYOCI_LC_ALL", all ? all : "", 1) || setenv("LC_ALL", "C", 1))
		return fail("out of memory");
	return 0;
}

/*
 * What a file is recognized by in the header of the compiled script: image_make.py computes the same.
 */
static bool file_key(const char *path, uint32_t *key)
{
	struct stat st;

	if (stat(path, &st))
		return false;
	*key = (uint32_t)((uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec + (uint64_t)st.st_size);
	return true;
}

/*
 * Takes the script's compiled form, if there is one that this interpreter made of the script as it is now: compiling
 * at every call takes time, and the whole compiler into memory.  After the magic number of a .pyc come three numbers
 * that the interpreter does not look at in a script; here they are the file's size, and the keys of the source
 * and of the interpreter.
 */
static void prefer_compiled(struct target *t)
{
	char compiled[PATH_MAX];
	uint32_t header[4];
	uint32_t source;
	uint32_t python;
	struct stat st;
	int fd;

	*strrchr(t->script, '/') = '\0';
	if (!path_set(compiled, "%s/__pycache__/main.pyc", t->script))
		compiled[0] = '\0';
	t->script[strlen(t->script)] = '/';
	fd = open(compiled, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (read(fd, header, sizeof(header)) == (ssize_t)sizeof(header) && !fstat(fd, &st) && st.st_size == header[1] &&
		file_key(t->script, &source) && source == header[2] && file_key(t->python, &python) && python == header[3])
		strcpy(t->script, compiled);
	close(fd);
}

/*
 * An interpreter that runs out of memory while it starts does not always end: it goes round in its own errors.
 * `ulimit -v` is the one limit that it meets that way; a limit of a cgroup kills.
 */
static int enough_memory(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur >= MEMORY_MIN)
		return 0;
	return fail("the limit of memory (ulimit -v) is %llu KiB: it has to be %d or more",
		(unsigned long long)limit.rlim_cur >> 10, MEMORY_MIN >> 10);
}

/*
 * Ends in the interpreter.  The arguments are ours from the second on; an empty argv has none.
 */
int launch_main(int argc, char **argv)
{
	static struct target target;
	bool mydocker = is_mydocker(argc, argv);
	char **args;
	int status;

	target.main = mydocker ? "mydocker/__main__.py" : "__main__.py";
	status = fill_stdio();
	/* most calls of an engine need no interpreter at all: verbs.c */
	if (!status && !mydocker && verbs_try(argc, argv) == 0)
		return 0;
	if (!status)
		status = enough_memory();
	if (!status)
		status = find_self(&target);
	if (!status)
		status = find_package(&target);
	if (!status)
		status = find_python(&target);
	if (status)
		return status;
	clean_environment();
	if (!mydocker) {
		prefer_compiled(&target);
		if (plain_locale())
			return EXIT_NOT_STARTED;
	}

	args = calloc((size_t)argc + 7, sizeof(*args));
	if (!args)
		return fail("out of memory");
	args[0] = target.python;
	args[1] = "-I";
	args[2] = "-S";
	args[3] = "-X";
	args[4] = "utf8";
	args[5] = target.script;
	for (int i = 1; i < argc; i++)
		args[i + 5] = argv[i];

	/* The point of no return. */
	execv(target.python, args);
	return fail("cannot execute %s: %s", target.python, strerror(errno));
}
